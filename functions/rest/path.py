"""What a REST path asks for.

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc (the two patterns) and http_rest_api_util.cc. The
query is not part of the match here (the stock server's match includes it, so that `?x=1` breaks a request).
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from loader.servable import ModelSpec
from loader.status import Code, ServingError

MAX_PATHS = 4096
"""How many different paths are remembered."""

_PREDICTION = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?:"
    r"(?P<verb>classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_INSPECTION = re.compile(
    r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?(?P<verb>/metadata)?",
    re.IGNORECASE | re.ASCII,
)
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Target:
    """What a path means.

    Attributes:
        verb: `predict`, `classify`, `regress`, `status`, `metadata` or `models`.
        spec: the model asked for; its name is empty for `models`.
    """

    verb: str
    spec: ModelSpec


class Paths:
    """Parsed paths, remembered: a client sends the same few for ever. Not thread-safe; one event loop owns it."""

    def __init__(self) -> None:
        self._predictions: dict[str, Target] = {}

    @property
    def remembered(self) -> int:
        """How many paths are in memory, at most `MAX_PATHS`."""
        return len(self._predictions)

    def prediction(self, path: str) -> Target | None:
        """The target of a POST, or None where the path has no such form. Raises ServingError for a bad version."""
        target = self._predictions.get(path)
        if target is None:
            target = parse_prediction(path)
            if target is not None:
                if len(self._predictions) >= MAX_PATHS:
                    self._predictions.clear()
                self._predictions[path] = target
        return target


def parse_prediction(path: str) -> Target | None:
    """The target of a POST to `path` (percent-encoded, no query), or None."""
    match = _PREDICTION.fullmatch(path)
    # The pattern ignores case, the verb does not: the stock server compares it once more.
    if match is None or match["verb"] not in {"predict", "classify", "regress"}:
        return None
    return Target(match["verb"], _spec(match))


def parse_inspection(path: str) -> Target | None:
    """The target of a GET of `path` (percent-encoded, no query), or None."""
    match = _INSPECTION.fullmatch(path)
    if match is None or (match["verb"] and match["verb"] != "/metadata"):
        return None
    if match["name"] is None:
        if match["version"] or match["label"] or match["verb"]:
            raise ServingError(Code.INVALID_ARGUMENT, "Missing model name in request.")
        return Target("models", ModelSpec(""))
    return Target("metadata" if match["verb"] else "status", _spec(match))


def _spec(match: re.Match[str]) -> ModelSpec:
    version = None
    if match["version"] is not None:
        # int() of a very long number is slow and refused by Python; nothing over 19 digits fits anyway
        digits = match["version"].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) > _MAX_VERSION:
            raise ServingError(Code.INVALID_ARGUMENT, f"Failed to convert version: {match['version']} to numeric.")
        version = int(digits)
    label = match["label"]
    return ModelSpec(unquote(match["name"]), version, None if label is None else unquote(label))
