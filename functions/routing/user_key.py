"""Finds the user's key in a request: a header, a cookie, or a field of the JSON body.

A body of 150 kB must not be parsed twice for it. The field is looked for where clients put it, as the first or the last
member of the body, by a regular expression that is anchored there; a body that does not hold the field's name at all
(a search at memory speed) has no key; what is left is parsed by simdjson, which makes no Python object but the one that
is asked for. All ways give the same: of several members of one name, the first at the top counts.

Thread safety: a parser for each thread.
"""

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from functions.routing.table import UserKey

MAX_KEY_BYTES = 1024
"""A longer key is none: no user's name is like that."""

_local = threading.local()
_SCALAR = rb'(?:"(?P<text>[^"\\\x00-\x1f]{0,1024})"|(?P<number>0|-?[1-9][0-9]{0,17}))'


def find_key(wanted: UserKey, headers: Mapping[bytes, bytes], body: bytes) -> bytes | None:
    """The user's key; None where the request has none, an empty one, or one that is no text or whole number.

    Args:
        headers: by name in small letters.
        body: JSON, or what begins with it; empty where there is none.
    """
    if wanted.kind == "header":
        return _checked(headers.get(wanted.name.encode("latin-1", "replace"), b"").strip())
    if wanted.kind == "cookie":
        return _checked(_cookie(headers.get(b"cookie", b""), wanted.name.encode("latin-1", "replace")))
    return _checked(_member(body, tuple(wanted.name.split("."))))


def _checked(key: bytes) -> bytes | None:
    return key if 0 < len(key) <= MAX_KEY_BYTES else None


def _cookie(header: bytes, name: bytes) -> bytes:
    # Source: RFC 6265 sections 4.1.1 and 5.4; quotes around a value do not belong to it.
    for pair in header.split(b";"):
        key, _, value = pair.partition(b"=")
        if key.strip() == name:
            return value.strip().strip(b'"')
    return b""


@lru_cache(maxsize=8)
def _patterns(name: str) -> tuple[bytes, re.Pattern[bytes], re.Pattern[bytes]]:
    quoted = b'"%b"' % name.encode("utf-8", "replace")
    member = b"(?P<name>" + re.escape(quoted) + rb")\s*:\s*" + _SCALAR
    first = re.compile(rb"\s*\{\s*" + member + rb"\s*[,}]")
    # The last brace closes the body, and nothing between it and the member opens or closes anything: it is at the top.
    last = re.compile(rb"[,{]\s*" + member + rb"\s*\}\s*\Z")
    return quoted, first, last


_TAIL_BYTES = 2048
"""How much of the end is looked through for the last member."""


def _member(body: bytes, path: tuple[str, ...]) -> bytes:
    quoted, first, last = _patterns(path[0])
    plain = b"\\" not in body  # then a name has one spelling, and a quote ends a text
    if plain and len(path) == 1:
        match = first.match(body)
        if match is not None:
            return _scalar(match)
    at = body.find(quoted)
    if plain and at < 0:
        return b""
    if plain and len(path) == 1:
        match = last.search(body, max(0, len(body) - _TAIL_BYTES))
        if match is not None and match.start("name") == at:
            return _scalar(match)
    return _parsed(body, path)


def _scalar(match: re.Match[bytes]) -> bytes:
    return match["number"] if match["text"] is None else match["text"]


def _parsed(body: bytes, path: tuple[str, ...]) -> bytes:
    import simdjson  # noqa: PLC0415  the first such request pays, not the start

    if not hasattr(_local, "parser"):
        _local.parser = simdjson.Parser()
    value: Any
    try:
        value = _local.parser.parse(body)
        for name in path:
            if not isinstance(value, simdjson.Object):
                return b""
            value = value[name]
        if type(value) is str:
            return value.encode("utf-8", "surrogatepass")
        return b"%d" % value if type(value) is int else b""
    except (ValueError, KeyError, TypeError, RuntimeError):
        return b""
    finally:
        value = None  # a parser takes no other body while a part of this one is held
