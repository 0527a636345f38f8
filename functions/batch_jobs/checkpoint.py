"""What is done of a job, kept beside its results: parts, and where each of them ended.

    part-00000-of-00002-00000.jsonl        results: input 0 of 2, its part 0; names in order are rows in order
    errors-00000-of-00002-00000.jsonl      the rows of that part that are bad
    _job.json                              what the job is; another one is refused
    _progress/part-00000-of-00002-00000.json   the part is whole: its rows, bytes and where it ended
    _SUCCESS                               the job is done: all parts with their digests; `_progress` is gone

A part is written first and noted second, both whole or not at all. So a job that was killed at any moment goes on with
the first part that is not noted, and ends with the same bytes.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.batch_jobs.rows import Position
from loader.status import Code, ServingError
from loader.storage import Storage, open_storage
from loader.store import shown_host

JOB = "_job.json"
SUCCESS = "_SUCCESS"
PROGRESS = "_progress/"
MAX_NOTE_BYTES = 64 << 20
"""Of `_SUCCESS` and the like that are read."""

_OURS = re.compile(r"(?:part|errors)-\d{5}-of-\d{5}-\d{5}\.[a-z]+(?:\.gz)?|_progress/part-[\d-]+of-[\d-]+\.json")

_LEFT = re.compile(r"(?:_progress/)?\.(?:part-|errors-|_job\.json|_SUCCESS).*\.\d+")
"""What a process that was killed leaves where files are written under another name first."""


@dataclass(frozen=True, slots=True)
class PartState:
    """A part that is done.

    Attributes:
        end: where it ended in its input.
        rows: read for it, bad ones included.
        errors: bad ones of them.
        last: whether the input is read to its end, or as far as the job wants.
        file: the part's name; empty where it has no results.
        bytes, sha256: of the part.
        errors_file: name of the file of its bad rows; empty where there are none.
        versions: of the model that answered; empty where the protocol does not say.
    """

    end: Position
    rows: int
    errors: int
    last: bool
    file: str
    bytes: int
    sha256: str
    errors_file: str
    versions: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """For a note."""
        return {
            "end": self.end.as_json(),
            "rows": self.rows,
            "errors": self.errors,
            "last": self.last,
            "file": self.file,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "errors_file": self.errors_file,
            "versions": list(self.versions),
        }


def part_state(found: Any) -> PartState:
    """A part's state as it was noted. Raises ValueError for what is none."""
    try:
        return PartState(
            end=Position(*map(int, found["end"])),
            rows=int(found["rows"]),
            errors=int(found["errors"]),
            last=bool(found["last"]),
            file=str(found["file"]),
            bytes=int(found["bytes"]),
            sha256=str(found["sha256"]),
            errors_file=str(found["errors_file"]),
            versions=tuple(map(int, found["versions"])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def part_name(file: int, files: int, part: int) -> str:
    """`part-00000-of-00002-00007`."""
    return f"part-{file:05d}-of-{files:05d}-{part:05d}"


class Checkpoint:
    """The folder of results of one job. One thread at a time.

    Args:
        url: the folder.
        job: what the job is: `BatchRequest.as_json` and its inputs.
        event: that asked for it; empty for none.

    Attributes:
        parts: those that are done, by name without ending.
        success: what `_SUCCESS` says; None while the job is not done.
        version: of the model that the job began with, where that was noted.
    """

    def __init__(self, url: str, job: Mapping[str, Any], event: str) -> None:
        self.url = url
        self.parts: dict[str, PartState] = {}
        self.success: dict[str, Any] | None = None
        self.version: int | None = None
        self._storage: Storage = open_storage(url)
        self._job = dict(job)
        self._event = event
        self._began = False

    def read(self, *, restart: bool) -> None:
        """Finds out what is done already; `restart` forgets it, unless this very event had asked for it.

        Raises:
            ServingError: FAILED_PRECONDITION: the folder holds another job's results, or something else; what storage
                raises.
        """
        names = self._names()
        noted = self._note(JOB) if JOB in names else None
        success = self._note(SUCCESS) if SUCCESS in names else None
        if restart and not (self._event and (noted or success or {}).get("event") == self._event):
            return
        if noted is None and success is None:
            other = next((name for name in names if not _OURS.fullmatch(name) and not _LEFT.fullmatch(name)), "")
            if other:
                raise self._other(f"it holds {other!r}")
            return
        before = (noted or success or {}).get("job", {})
        differing = sorted(key for key in {*before, *self._job} if before.get(key) != self._job.get(key))
        if differing:
            raise self._other(f"another job wrote there: {', '.join(differing)} differ")
        self.version = (noted or success or {}).get("version")
        self.success = success
        self._began = True
        for name in names if success is None else ():
            if not name.startswith(PROGRESS) or not _OURS.fullmatch(name):
                continue
            try:
                self.parts[Path(name).stem] = part_state(self._note(name))
            except ValueError as error:
                raise self._other(f"{name} is damaged: {error}") from None

    def begin(self, version: int | None) -> None:
        """Notes what the job is, and removes what another one left."""
        if self._began:
            return
        self._remove(
            [name for name in self._names() if _OURS.fullmatch(name) or _LEFT.fullmatch(name) or name in (JOB, SUCCESS)]
        )
        self.version = version
        self._write(JOB, {"job": self._job, "event": self._event, "version": version})
        self._began = True

    def put(self, name: str, file: Path) -> None:
        """Writes a file of results."""
        self._storage.put(name, file)

    def note(self, part: str, state: PartState) -> None:
        """Notes that a part is whole."""
        self._write(f"{PROGRESS}{part}.json", state.as_json())
        self.parts[part] = state

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Notes that all is done."""
        self.success = {"job": self._job, "event": self._event, "version": self.version, **summary}
        self._write(SUCCESS, self.success)
        self.clean()

    def clean(self) -> None:
        """Removes the notes that a finished job does not need: `_SUCCESS` holds all."""
        names = self._names()
        self._remove([name for name in names if name.startswith(PROGRESS) or name == JOB or _LEFT.fullmatch(name)])

    def _names(self) -> list[str]:
        try:
            return [info.path for info in self._storage.walk() if not info.path.endswith("/")]
        except FileNotFoundError:
            return []

    def _remove(self, names: list[str]) -> None:
        # What says that something is done goes first: a job that is killed here never counts on what is gone.
        for name in sorted(names, key=lambda name: (name not in (JOB, SUCCESS), name)):
            self._storage.delete(name)

    def _note(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._storage.read(name, 0, MAX_NOTE_BYTES))
        except (ValueError, RecursionError):
            raise self._other(f"{name} is damaged") from None
        if not isinstance(found, dict):
            raise self._other(f"{name} is damaged")
        return found

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        with tempfile.NamedTemporaryFile(prefix="zeroserve-batch-") as file:
            file.write(json.dumps(content, indent=1, sort_keys=True).encode())
            file.flush()
            self._storage.put(name, Path(file.name))

    def _other(self, reason: str) -> ServingError:
        return ServingError(
            Code.FAILED_PRECONDITION,
            f"{shown_host(self.url)}: {reason}; name another --output, or --restart writes it anew",
        )


def sha256_of(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
