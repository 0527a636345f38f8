"""How lines are logged: as text, or as one JSON object on each line. Every start imports it, so it imports little.

Whatever callers send ends up in messages (names of models, paths): no line may hold a line break or a terminal's
control sequence of theirs. In JSON all but ASCII is escaped, in text all controls are.
"""

import functools
import json
import logging
import sys
import threading
import time
from types import TracebackType

from functions.observing.current_access import current

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MAX_MESSAGE = 16 << 10
"""Characters of a message, and of a traceback; what is longer is cut."""

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
# Line and paragraph separators, and what turns the direction of text around.
_CONTROLS |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, 0x200E, 0x200F, *range(0x202A, 0x202F))}
_CONTROLS |= {code: f"\\u{code:04x}" for code in range(0x2066, 0x206A)}
_CONTROLS |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def plain(text: str) -> str:
    """`text` on one line: controls as escapes, cut to `MAX_MESSAGE`."""
    return text[:MAX_MESSAGE].translate(_CONTROLS)


class TextFormatter(logging.Formatter):
    """Lines of text. A traceback comes on lines of its own, after its message."""

    def __init__(self, worker: int | None = None) -> None:
        """With `worker`, lines say which one of several writes them."""
        super().__init__(TEXT_FORMAT if worker is None else TEXT_FORMAT.replace(" %(name)s", f" {worker} %(name)s"))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        """The line without its traceback."""
        record.message = plain(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One object on each line: time, severity, logger, message; the ids of the request, where there is one; the
    traceback as `exception`.
    """

    def __init__(self, worker: int | None = None) -> None:
        """With `worker`, lines say which one of several writes them."""
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": timestamp(record.created),
            "severity": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:MAX_MESSAGE],
        }
        if self._worker is not None:
            line["worker"] = self._worker
        access = current.get()
        if access is not None:
            line["request_id"] = access.request_id
            if access.trace_id:
                line["trace_id"] = access.trace_id
            if access.span_id:
                line["span_id"] = access.span_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-MAX_MESSAGE:]
        return json.dumps(line, separators=(",", ":"))


def formatter(log_format: str, worker: int | None = None) -> logging.Formatter:
    """For `--log_format`."""
    return JsonFormatter(worker) if log_format == "json" else TextFormatter(worker)


def timestamp(seconds: float) -> str:
    """RFC 3339 with microseconds, in UTC."""
    whole = int(seconds)
    return f"{_utc(whole)}.{int((seconds - whole) * 1e6):06d}Z"


@functools.lru_cache(4)  # lines come many to the second
def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def configure(level: str, log_format: str) -> None:
    """Sets up the process's log on standard error, unless it is set up already. With JSON, what nobody has caught is
    logged as well.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(log_format))
    root.addHandler(handler)
    root.setLevel(level)
    if log_format == "json":
        logging.captureWarnings(capture=True)
        sys.excepthook = _uncaught
        threading.excepthook = lambda found: _uncaught(found.exc_type, found.exc_value, found.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
    else:
        logging.getLogger("zeroserve").critical("an error that nobody caught", exc_info=(kind, error or kind(), trace))
