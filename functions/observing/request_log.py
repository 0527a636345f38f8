"""The canonical log line: one for each request, with all that is known of it. The text form is logfmt."""

import functools
import json
import os
import random
import re
import time
from collections.abc import Callable

from functions.cold_start import ColdStart
from functions.observing.access import Access, Observer
from functions.observing.line_writer import LineWriter
from functions.observing.log_format import plain, timestamp
from functions.observing.metrics import Counter, Metrics
from loader.status import Code

LOGGER = "zeroserve.request"
MAX_TEXT = 256
"""Characters of a text that callers have made: a name, a path."""

MAX_ERROR = 512
"""Characters of an error's text."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_BARE = re.compile(r"[A-Za-z0-9._:/@+~-]+")
_OUR_FAULT = frozenset({Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS, Code.UNAVAILABLE})


class RequestLog(Observer):
    """Logs requests; a `functions.observing.access.Sink`.

    Args:
        write: puts lines where they belong; see `LineWriter`.
        as_json: one object, instead of `name=value` pairs.
        share: of the good requests, 0 to 1; those that fail are always logged.
        revision: the name of this revision on a cluster; empty for none.
        worker: this process among several; None for the only one.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        as_json: bool,
        share: float,
        revision: str = "",
        worker: int | None = None,
    ) -> None:
        self._lines = Counter("zeroserve_request_log_lines_total", ("result",))
        self._writer = LineWriter(write, lambda result, count: self._lines.add((result,), count))
        self._as_json = as_json
        self._share = share
        self._own = {name: one for name, one in (("revision", revision), ("worker", worker)) if one not in ("", None)}

    def begun(self, access: Access) -> None:
        """Nothing yet."""

    def ended(self, access: Access) -> None:
        """Logs the request, if it is to be."""
        if access.code is Code.OK and (self._share <= 0 or (self._share < 1 and random.random() >= self._share)):  # noqa: S311  a sample
            return
        fields = {**line_fields(access), **self._own}
        self._writer.put(_json_line(access, fields) if self._as_json else _text_line(access, fields))

    def add_to(self, metrics: Metrics) -> None:
        """Shows how many lines were written, and how many not."""
        metrics.add_family(self._lines)

    def started(self, cold_start: ColdStart) -> None:
        """Nothing: lines are written from the first on."""

    def close(self, timeout: float) -> None:
        """Writes what there is."""
        self._writer.close(timeout)


def line_fields(access: Access) -> dict[str, object]:
    """What a line says, in its order; what is not known is left out."""
    times = access.times()
    batched = times.batch_rows > 0
    fields: dict[str, object] = {
        "request_id": access.request_id,
        "trace_id": access.trace_id or None,
        "span_id": access.span_id or None,
        "protocol": access.protocol,
        "api": access.api[:MAX_TEXT] or None,
        "method": None if access.api else access.method,
        "path": None if access.api else access.path[:MAX_TEXT],
        "model": access.model[:MAX_TEXT] or None,
        "label": access.label[:MAX_TEXT] or None,
        "version": access.wanted_version if access.version is None else access.version,
        "signature": access.signature[:MAX_TEXT] or None,
        "status": access.status,
        "code": access.code.name,
        "error": access.error[:MAX_ERROR] or None,
        "total_ms": _milliseconds(access.ended - access.began),
        "queue_ms": _milliseconds(times.queue) if access.runs else None,
        "batch_ms": _milliseconds(times.batch) if batched else None,
        "run_ms": _milliseconds(times.run) if access.runs else None,
        "rows": access.rows or None,
        "batch_rows": times.batch_rows or None,
        "request_bytes": access.request_bytes,
        "response_bytes": access.response_bytes,
        "cold": access.cold or None,
        "peer": access.peer or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def write_to_stderr(data: bytes) -> None:
    """All of `data`; raises OSError."""
    while data:
        data = data[os.write(2, data) :]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _severity(access: Access) -> str:
    if access.code is Code.OK:
        return "INFO"
    return "ERROR" if access.code in _OUR_FAULT else "WARNING"


def _json_line(access: Access, fields: dict[str, object]) -> bytes:
    line = {
        "time": timestamp(access.began_ns / 1e9),
        "severity": _severity(access),
        "logger": LOGGER,
        "message": "request",
        **fields,
    }
    return _encode(line).encode("ascii") + b"\n"


def _text_line(access: Access, fields: dict[str, object]) -> bytes:
    seconds, rest = divmod(access.began_ns, 1_000_000_000)
    when = f"{_local(seconds)},{rest // 1_000_000:03d}"
    pairs = " ".join(f"{name}={_text_value(value)}" for name, value in fields.items())
    return f"{when} {_severity(access)} {LOGGER}: {pairs}\n".encode("utf-8", "backslashreplace")


@functools.lru_cache(4)  # requests come many to the second
def _local(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _text_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _BARE.fullmatch(text):
        return text
    return plain(json.dumps(text, ensure_ascii=False))
