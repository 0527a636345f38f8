"""Errors as gRPC shows them: codes, texts, and how a text travels in a header.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (grpc-status, grpc-message);
tensorflow_serving/model_servers/grpc_status_util.cc (texts are cut); rows A4.16 and A4.17 of the project's reference.
"""

import logging
from typing import Any, NoReturn

import grpc

from loader.status import Code, ServingError

MAX_MESSAGE_CHARACTERS = 1024
"""Longer error texts are cut, so that they fit into what peers take as headers."""

TRUNCATED = "...TRUNCATED"

INTERNAL_TEXT = "internal error; the server's log says more"

_STATUS = {Code(status.value[0]): status for status in grpc.StatusCode}
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}
_log = logging.getLogger("zeroserve.grpc")


def cut(text: str) -> str:
    """`text` as the stock server sends it."""
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + TRUNCATED


def percent_encode(text: str) -> bytes:
    """The value of `grpc-message`: UTF-8, where what is not plain ASCII becomes %XX."""
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in text.encode("utf-8", "replace"))


async def abort(context: Any, error: ServingError) -> NoReturn:
    """Ends a call with an error, in a `grpc.aio` server or in ours.

    Args:
        context: a `grpc.aio.ServicerContext`.
    """
    pushback = () if error.retry_after is None else (("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))),)
    await context.abort(_STATUS[error.code], cut(error.message), pushback)
    raise AssertionError("abort returned")


async def abort_unknown(context: Any, method: str) -> NoReturn:
    """Ends a call whose handler has raised what it should not: the text stays in the log."""
    _log.exception("a gRPC call failed: %s", method)
    await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
    raise AssertionError("abort returned")
