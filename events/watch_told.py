"""What the sink was told already, so that a version is told of once and again whenever it changes.

Without a file a watcher that starts tells of all versions there are, which is harmless and heals what was missed while
it did not run. With one it goes on where it ended.

The file is JSON, `{"<base> <subject>": "<fingerprint>"}` with both parts percent-encoded, replaced as a whole.
"""

import json
import os
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote, unquote

from events.watch_event import Landed

MAX_FILE_BYTES = 64 << 20
"""A longer state file is refused."""

Key = tuple[str, str]


class Told:
    """Version -> the fingerprint that the sink took. Safe from any thread.

    Args:
        file: where it is kept; None for nowhere.

    Raises:
        OSError, ValueError: the file is there and cannot be read, or is not one of these.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._fingerprints: dict[Key, str] = {}
        if file is not None and file.exists():
            self._fingerprints = _read(file)

    def knows(self, landed: Landed) -> bool:
        """Whether the sink was told of this version as it is now."""
        with self._lock:
            return self._fingerprints.get(landed.key) == landed.fingerprint

    def note(self, landed: Landed) -> None:
        """The sink has it. Raises OSError when the file cannot be written."""
        with self._lock:
            if self._fingerprints.get(landed.key) != landed.fingerprint:
                self._fingerprints[landed.key] = landed.fingerprint
                self._write()

    def keep(self, base: str, keys: set[Key]) -> list[Key]:
        """Forgets the versions of `base` that are gone, and gives their keys: one that returns is told of again."""
        with self._lock:
            gone = [key for key in self._fingerprints if key[0] == base and key not in keys]
            for key in gone:
                del self._fingerprints[key]
            if gone:
                self._write()
            return gone

    def _write(self) -> None:
        if self._file is None:
            return
        content = {
            f"{quote(base, safe='')} {quote(subject, safe='')}": fingerprint
            for (base, subject), fingerprint in self._fingerprints.items()
        }
        # Under another name first: a watcher that is killed leaves the old state or the new one, never half of it.
        with tempfile.NamedTemporaryFile("w", dir=self._file.parent, prefix=".watch-", delete=False) as out:
            json.dump(content, out)
            out.flush()
            os.fsync(out.fileno())
        Path(out.name).replace(self._file)


def _read(file: Path) -> dict[Key, str]:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{file}: more than {MAX_FILE_BYTES} bytes are no watcher's state; remove it or name another")
    found: dict[Key, str] = {}
    try:
        content = json.loads(file.read_bytes())
        for name, fingerprint in content.items():
            base, subject = name.split(" ")
            found[unquote(base), unquote(subject)] = str(fingerprint)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file}: not a watcher's state ({error}); remove it or name another") from None
    return found
