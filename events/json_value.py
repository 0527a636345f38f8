"""JSON from strangers, read with types: every step says what was found where it is not what was wanted."""

import json
from typing import Any

from events.error import MalformedError

MAX_TEXT = 4096
"""Characters of one text that is read; longer ones are refused."""

MAX_NESTING = 3
"""How deep one envelope may lie in another: EventBridge or S3 in SNS in SQS."""


def parse(body: bytes | str, what: str) -> Any:
    """The value of JSON text.

    Raises:
        MalformedError: it is none, or nested too deep to be read.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{what} is not JSON: {str(error)[:200]}") from None


def inner(value: Any, what: str) -> Any:
    """A value that may be JSON in a text, as queues and topics carry it."""
    return parse(value, what) if isinstance(value, str | bytes) else value


def mapping(value: Any, what: str) -> dict[str, Any]:
    """The object that `value` is.

    Raises:
        MalformedError: it is something else.
    """
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is {_kind(value)}, wanted an object")
    return value


def items(value: Any, what: str, limit: int) -> list[Any]:
    """The list that `value` is, of `limit` entries at most.

    Raises:
        MalformedError: it is something else, or longer.
    """
    if not isinstance(value, list):
        raise MalformedError(f"{what} is {_kind(value)}, wanted a list")
    if len(value) > limit:
        raise MalformedError(f"{what} has {len(value)} entries, at most {limit} are taken")
    return value


def text(value: Any, what: str) -> str:
    """The text that `value` is, not empty.

    Raises:
        MalformedError: it is something else, empty, or longer than MAX_TEXT.
    """
    if not isinstance(value, str) or not value:
        raise MalformedError(f"{what} is {_kind(value)}, wanted a text")
    if len(value) > MAX_TEXT:
        raise MalformedError(f"{what} has {len(value)} characters, at most {MAX_TEXT} are taken")
    return value


def optional_text(value: Any) -> str:
    """`value` where it is a text of sensible length, or a number, which some servers write instead; else empty."""
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 64) < value < 1 << 64:
        return str(value)
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else ""


def optional_size(value: Any) -> int | None:
    """Bytes, as a number or as the digits of one (int64 in proto's JSON); None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _kind(value: Any) -> str:
    if value is None:
        return "missing"
    names = {
        dict: "an object",
        list: "a list",
        str: "an empty text" if value == "" else "a text",
        bool: "a truth value",
    }
    return names.get(type(value), "a number")
