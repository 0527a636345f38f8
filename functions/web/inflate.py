"""Undoes gzip of request bodies, with a limit.

Source: tensorflow_serving/util/net_http/server/internal/evhttp_request.cc (`Content-Encoding` that contains `gzip`,
limit of 100 MB, an empty body when inflating fails).
"""

import zlib

from loader.status import Code, ServingError

_GZIP = 16 + zlib.MAX_WBITS


def inflate(body: bytes, limit: int) -> bytes:
    """The content of the gzip stream `body`; empty when it is not one, as in the stock server.

    Raises:
        ServingError: OUT_OF_RANGE when it holds more than `limit` bytes; no more is inflated than one byte past it.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error:
        return b""
    if len(content) > limit:
        raise ServingError(
            Code.OUT_OF_RANGE,
            f"the gzip body of {len(body)} bytes inflates to more than {limit} bytes (max_inflated_bytes)",
        )
    return content if stream.eof else b""
