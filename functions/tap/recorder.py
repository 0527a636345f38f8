"""Recording: sampled predictions become files of the stock warm-up format in any storage, from a thread of its own.

One object for each model, version, process and stretch of time, under a name that nobody else makes and written whole:
`<model>/<version>/20260102T030405Z-<host>-<pid>-<random>-<number>.tfrecord`. The same request twice is one record.
A record holds what callers sent, whole: what is cut is no request any more.
"""

import logging
import os
import random
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from functions.tap import counts
from functions.tap.counts import RECORD, TapCounts
from functions.tap.outbox import Outbox
from loader.status import ServingError
from loader.storage import Storage
from loader.store import shown_host
from loader.tfrecord import encode

if TYPE_CHECKING:
    from functions.tap.sample import Sample

MAX_RECORD_BYTES = 16 << 20
"""Of one record; a larger prediction is not recorded."""

MAX_WAITING = 256
"""Predictions that wait to be recorded."""

MAX_WAITING_BYTES = 64 << 20
"""Of all that wait."""

MAX_PART_BYTES = 16 << 20
"""Of one file; the next record begins another."""

MAX_HELD_BYTES = 64 << 20
"""Of all files that are not written yet; the oldest is written when there is more."""

TRIES = 4
"""How often one file is written."""

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 30.0
"""The longest first pause between two tries, and the longest of all; each is drawn between zero and the longest."""

SUFFIX = ".tfrecord"

_log = logging.getLogger("zeroserve.tap")


@dataclass(frozen=True, slots=True)
class RecordRules:
    """What is recorded.

    Attributes:
        share: of the predictions, of models that say none themselves.
        limit: records of one model.
        seconds: that a record waits to be written.
    """

    share: float
    limit: int
    seconds: float


@dataclass(slots=True)
class _Part:
    """One file that grows.

    Attributes:
        due: when it is written at the latest, in `time.monotonic()` seconds.
    """

    due: float
    records: list[bytes] = field(default_factory=list)
    size: int = 0


class Recorder:
    """Records. `offer` never blocks; all else happens on the recorder's thread.

    Args:
        storage: where files go.
        rules: what is recorded.
        tap_counts: what became of them.
        draw: a number from 0 to 1, without 1.
    """

    def __init__(
        self,
        storage: Storage,
        rules: RecordRules,
        tap_counts: TapCounts,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._storage = storage
        self.rules = rules
        self._counts = tap_counts
        self._draw = draw
        self._outbox: Outbox[Sample] = Outbox(MAX_WAITING, MAX_WAITING_BYTES)
        self._thread: threading.Thread | None = None
        self._parts: dict[tuple[str, int], _Part] = {}
        self._seen: dict[str, set[bytes]] = {}
        self._full: set[str] = set()
        self._end = threading.Event()
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:64]
        self._name = f"{host}-{os.getpid()}-{os.urandom(4).hex()}"
        self._written = 0

    def wants(self, model: str, share: float) -> bool:
        """Whether this prediction is one of the share."""
        return model not in self._full and self._draw() < share

    def offer(self, sample: "Sample") -> None:
        """Takes a sample, or counts it as dropped."""
        self._counts.sampled.add((RECORD,))
        if not sample.whole or sample.size > MAX_RECORD_BYTES:
            self._counts.drop(RECORD, counts.TOO_LARGE)
            return
        if not self._outbox.offer(sample, sample.size):
            self._counts.drop(RECORD, counts.SHUTDOWN if self._outbox.closed else counts.QUEUE_FULL)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="zeroserve-record", daemon=True)
            self._thread.start()

    def close(self, timeout: float) -> None:
        """Writes what waits, for so many seconds at the most; what is left is counted, and said in the log."""
        self._outbox.close()
        if self._thread is None:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._end.set()  # a file that is being written again is given up
            left = len(self._outbox) + sum(len(part.records) for part in self._parts.values())
            _log.warning("about %d records were not written to %s in time", left, shown_host(self._storage.url))

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            for key in [key for key, part in self._parts.items() if part.due <= now]:
                self._write(key)
            wait = min((part.due for part in self._parts.values()), default=None)
            sample = self._outbox.take(None if wait is None else max(0.0, wait - time.monotonic()))
            if sample is not None:
                try:
                    self._add(sample)
                except Exception:  # noqa: BLE001  one record must not take the others with it
                    _log.exception("a prediction could not be recorded")
                    self._counts.drop(RECORD, counts.UNREADABLE)
            elif self._outbox.closed:
                break
        for key in list(self._parts):
            self._write(key)

    def _add(self, sample: "Sample") -> None:
        from functions.tap.sample_log import prediction_log, request_digest  # noqa: PLC0415  messages: by the first use

        seen = self._seen.setdefault(sample.model, set())
        if len(seen) >= self.rules.limit:
            self._full.add(sample.model)
            self._counts.drop(RECORD, counts.LIMIT)
            return
        log = prediction_log(sample)
        digest = request_digest(log)
        if digest in seen:
            self._counts.drop(RECORD, counts.DUPLICATE)
            return
        record = encode(log.SerializeToString())
        key = (sample.model, sample.version)
        part = self._parts.get(key)
        if part is not None and part.size + len(record) > MAX_PART_BYTES:
            self._write(key)
            part = None
        if part is None:
            part = self._parts[key] = _Part(time.monotonic() + self.rules.seconds)
        part.records.append(record)
        part.size += len(record)
        seen.add(digest)
        if len(seen) >= self.rules.limit:
            self._full.add(sample.model)
        if sum(one.size for one in self._parts.values()) > MAX_HELD_BYTES:
            self._write(min(self._parts, key=lambda each: self._parts[each].due))

    def _write(self, key: tuple[str, int]) -> None:
        """Writes a part; gives it up after some tries."""
        part = self._parts.pop(key)
        model, version = key
        self._written += 1
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = f"{folder_of(model)}/{version}/{stamp}-{self._name}-{self._written}{SUFFIX}"
        for attempt in range(TRIES):
            longest = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2**attempt)
            if attempt and self._end.wait(random.uniform(0, longest)):  # noqa: S311  no secret
                break
            try:
                self._put(path, part)
            except (ServingError, OSError) as error:
                words = error.message if isinstance(error, ServingError) else str(error)
                _log.warning("%d records cannot be written: %s", len(part.records), words)
                continue
            self._counts.passed.add((RECORD,), len(part.records))
            _log.info("%d records written to %s/%s", len(part.records), shown_host(self._storage.url), path)
            return
        self._counts.drop(RECORD, counts.SHUTDOWN if self._end.is_set() else counts.FAILED, len(part.records))

    def _put(self, path: str, part: _Part) -> None:
        with tempfile.TemporaryDirectory(prefix="zeroserve-record-") as folder:
            file = Path(folder) / "part"
            with file.open("wb") as out:
                out.writelines(part.records)
            self._storage.put(path, file)


def folder_of(model: str) -> str:
    """The folder that a model's records lie in: its name, with what a path could trip over percent-encoded."""
    name = quote(model, safe="")
    return name.replace(".", "%2E") if not name.strip(".") else name
