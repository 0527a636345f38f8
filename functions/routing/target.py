"""What a REST path names: the model, and a version or a label of it. Pure.

The forms are those of `functions/rest/path.py` and `functions/oip/rest.py`, which answer a path of any other form.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

MAX_PATHS = 4096
"""How many different paths are remembered."""

MAX_PATH = 4096
"""Characters of a path that is looked at; a longer one names nothing of ours."""

_V1 = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?P<choice>/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<verb>:(?:classify|regress|predict)|/metadata)?",
    re.IGNORECASE | re.ASCII,
)
_V2 = re.compile(
    r"/v2/models/(?P<name>[^/]+)(?P<choice>/versions/(?P<version>[^/]+))?(?P<verb>/(?:ready|infer))?/?", re.ASCII
)
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names.

    Attributes:
        name: of the model.
        version: None where it names none.
        label: likewise.
        predicts: whether it asks for a prediction; else for what is known about the model.
        before, after: the path without the part that names the version or label.
    """

    name: str
    version: int | None
    label: str | None
    predicts: bool
    before: str
    after: str

    def path_of(self, version: int) -> str:
        """The same path for a version."""
        return f"{self.before}/versions/{version}{self.after}"


class Targets:
    """Paths, read once: a client sends the same few for ever. Not thread-safe; one event loop owns it."""

    def __init__(self) -> None:
        self._known: dict[str, Target | None] = {}

    def of(self, path: str) -> Target | None:
        """What `path` (percent-encoded, no query) names; None for what has another form or an impossible version."""
        if path in self._known:
            return self._known[path]
        if len(path) > MAX_PATH:
            return None
        if len(self._known) >= MAX_PATHS:
            self._known.clear()
        target = self._known[path] = _read(path)
        return target


def _read(path: str) -> Target | None:
    match = _V1.fullmatch(path)
    if match is not None:
        return _target(match, match["version"], match["label"])
    match = _V2.fullmatch(path)
    if match is None:
        return None
    choice = unquote(match["version"] or "")
    if choice.isascii() and choice.isdigit():
        return _target(match, choice, None)
    return _target(match, None, choice or None)


def _target(match: re.Match[str], digits: str | None, label: str | None) -> Target | None:
    version = None
    if digits is not None:
        significant = digits.lstrip("0") or "0"
        if len(significant) > 19 or int(significant) > _MAX_VERSION:
            return None
        version = int(significant)
    start, end = match.span("choice") if match["choice"] else (match.end("name"), match.end("name"))
    verb = (match["verb"] or "")[1:]
    return Target(
        unquote(match["name"]),
        version,
        None if label is None else unquote(label),
        verb.lower() in {"classify", "regress", "predict", "infer"},
        match.string[:start],
        match.string[end:],
    )
