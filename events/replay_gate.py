"""Replay gate: recorded requests, asked of the new revision by its tag, have to be answered as before.

What is right says the revision that serves now, asked at the same moment; or the answers in the file. A request that
the old revision refuses itself proves nothing and is left out; one that only the new revision refuses disagrees.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from events.gate import GateUnsureError, Subject, Verdict, reasons_text
from events.gate_http import Peer, PeerError
from events.gate_settings import ReplaySettings
from events.replay_compare import difference
from events.replay_record import Record, read_record
from events.replay_tensor import NotJsonError
from loader.status import Code, ServingError
from loader.tfrecord import records
from loader.wire import WireError

GOLDEN_FILE = "golden/requests.tfrecord"
"""Beside the versions' folders."""

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
"""In a version's folder. Source: tensorflow_serving/servables/tensorflow/saved_model_warmup.cc."""

MAX_FILE_BYTES = 256 << 20
"""Of a file of records."""

MAX_SECONDS = 600.0
"""What a replay may take; what was asked until then counts."""

MAX_SHOWN = 3
"""Disagreements that a verdict shows."""

Read = Callable[[str, int], bytes]


@dataclass(slots=True)
class _Tally:
    agreed: int = 0
    differences: list[str] = field(default_factory=list)
    refused: int = 0
    unasked: list[str] = field(default_factory=list)

    @property
    def compared(self) -> int:
        return self.agreed + len(self.differences)


class ReplayGate:
    """Replays.

    Args:
        read: a file in storage, or all below a folder that ends in `/`: (URL, most bytes); FileNotFoundError where
            there is none.
    """

    name = "replay"

    def __init__(self, read: Read) -> None:
        self._read = read

    def judge(self, subject: Subject) -> Verdict:
        """See `events.gate.Gate`."""
        settings = subject.settings.replay
        if settings is None:
            return Verdict(passed=True, words="not asked for")
        try:
            content = self._content(subject, settings)
            tally = self._replay(subject, settings, content)
        except FileNotFoundError:
            where = _place(subject, settings)
            return Verdict(passed=False, words=f"no records at {where}: zeroserve record writes such a file")
        except ServingError as error:
            if error.code in (Code.DATA_LOSS, Code.OUT_OF_RANGE):
                return Verdict(passed=False, words=f"{_place(subject, settings)}: {error.message}")
            raise GateUnsureError(error.message) from None
        except PeerError as error:
            raise GateUnsureError(str(error)) from None
        return _verdict(tally, settings)

    def _content(self, subject: Subject, settings: ReplaySettings) -> bytes:
        return self._read(_place(subject, settings), MAX_FILE_BYTES)

    def _replay(self, subject: Subject, settings: ReplaySettings, content: bytes) -> _Tally:
        tally = _Tally()
        status = f"/v1/models/{subject.model}"
        subject.new.wake(status)
        live = subject.old if settings.against == "serving" else None
        if live is not None:
            live.wake(status)
        deadline = time.monotonic() + MAX_SECONDS
        for index, log in enumerate(records(io.BytesIO(content))):
            if index >= settings.limit or time.monotonic() > deadline:
                break
            try:
                record = read_record(log)
            except (NotJsonError, WireError) as error:
                tally.unasked.append(f"record {index}: {error}")
                continue
            path = f"{status}:{record.method}"
            right = _right(record, live, path)
            if right is None:
                tally.refused += 1
                continue
            problem = _asked(record, subject.new, path, right, settings)
            if problem:
                tally.differences.append(f"record {index}: {problem}")
            else:
                tally.agreed += 1
        return tally


def _place(subject: Subject, settings: ReplaySettings) -> str:
    """The URL of the records."""
    place = settings.records
    if "://" in place:
        return place
    if place == "golden":
        place = GOLDEN_FILE
    elif place == "warmup":
        place = f"{subject.version}/{WARMUP_FILE}"
    return f"{subject.base}/{place}"


def _right(record: Record, live: Peer | None, path: str) -> Any:
    """The right answer; None where there is none."""
    if live is None:
        return record.answer
    answer = live.ask(path, record.body)
    return answer.content if answer.status == 200 else None


def _asked(record: Record, new: Peer, path: str, right: Any, settings: ReplaySettings) -> str:
    answer = new.ask(path, record.body)
    if answer.status != 200:
        said = answer.content.get("error", "") if isinstance(answer.content, dict) else ""
        return f"answered {answer.status} {str(said)[:200]}".rstrip()
    return difference(right, answer.content, settings)


def _verdict(tally: _Tally, settings: ReplaySettings) -> Verdict:
    left_out = f", {tally.refused} left out" if tally.refused else ""
    if tally.unasked:
        left_out += f", {len(tally.unasked)} cannot be asked over REST ({tally.unasked[0]})"
    if not tally.compared:
        return Verdict(passed=False, words=f"no record could be compared{left_out}")
    agreed = f"{tally.agreed} of {tally.compared} answers agree"
    if tally.agreed < settings.share * tally.compared:
        shown = reasons_text(tally.differences[:MAX_SHOWN])
        return Verdict(passed=False, words=f"{agreed}, wanted {settings.share:.2%}{left_out}: {shown}")
    return Verdict(passed=True, words=agreed + left_out)
