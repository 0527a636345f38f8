"""What pods' metrics say about a revision, and the book that is kept of it between two looks. Pure.

Counters live in pods, and pods go: with a restart they begin at zero again, with scale-down they are lost. So the book
remembers what each pod said last and adds up differences; a counter that is lower than before has begun again. What a
pod counted after the last look at it is lost with it, on both sides alike. The book is an annotation on the Service,
written together with the traffic that it led to, so that two lookers never count a request twice.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from events.health import Evidence, Seen, as_json, from_json, seen

MAX_PODS = 100
"""Of one revision that are asked and remembered; an annotation has room for no more than some thousand."""

MIN_SAMPLES = 100
"""Good answers of the old revision that say what is slow."""

USUAL_SHARE = 0.95
"""Of the old revision's answers that are not slow."""

REQUESTS = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency_bucket"
_OK = "OK"
_NOTHING = (0, 0, 0, 0)

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)\{(.*)\} (\S+)(?: \d+)?$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Counters:
    """What one pod has counted since it began.

    Attributes:
        total: requests of the model.
        wrong: those that were not answered OK.
        below: upper bound in microseconds -> good answers within it; infinity for all of them.
    """

    total: int = 0
    wrong: int = 0
    below: Mapping[float, int] = field(default_factory=dict)

    def slow(self, bound: float) -> Seen:
        """Good answers, and those of them beyond the bound."""
        good = self.below.get(float("inf"), 0)
        return Seen(good, good - self.below.get(bound, good))


def counters(metrics: bytes, model: str) -> Counters:
    """The counters in a pod's metrics; what cannot be read counts nothing.

    Args:
        metrics: Prometheus' text format 0.0.4.
        model: its name, as requests call it.
    """
    total = wrong = 0
    below: dict[float, int] = {}
    for name, labels, value in _samples(metrics):
        if labels.get("model_name") != model:
            continue
        if name == REQUESTS:
            total += value
            wrong += value if labels.get("status") != _OK else 0
        elif name == LATENCY:
            bound = float(labels.get("le", "inf"))
            below[bound] = below.get(bound, 0) + value
    return Counters(total, wrong, below)


def _samples(metrics: bytes) -> Iterator[tuple[str, dict[str, str], int]]:
    for name, labels, value in _LINE.findall(metrics.decode("utf-8", "replace")):
        if name not in {REQUESTS, LATENCY}:
            continue
        try:
            number = int(float(value))
        except (ValueError, OverflowError):
            continue
        yield name, {key: _ESCAPED.sub(_unescaped, text) for key, text in _LABEL.findall(labels)}, number


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


Pods = Mapping[str, Counters]
"""Pod -> its counters."""


@dataclass(frozen=True, slots=True)
class Book:
    """All that is kept of a rollout's health.

    Attributes:
        revision: the new one.
        errors: evidence on failed requests.
        slow: evidence on slow requests.
        bound: microseconds beyond which an answer is slow; 0 while the old revision has not shown what is usual.
        at_step: requests of the new revision when the step began.
        restarts: of the new revision's containers when the rollout began.
        last: pod -> total, wrong, good, slow, as it said last.
    """

    revision: str
    errors: Evidence = field(default_factory=Evidence)
    slow: Evidence = field(default_factory=Evidence)
    bound: float = 0.0
    at_step: int = 0
    restarts: int = 0
    last: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """Requests that the new revision got since the rollout began."""
        return self.errors.new.total + self.errors.pending_new.total


def begun(revision: str, old: Pods, new: Pods, restarts: int, slow_ms: float) -> Book:
    """The book of a rollout that begins: what was counted before is not its business."""
    bound = _bound(old, slow_ms)
    return Book(revision, bound=bound, restarts=restarts, last=_last({**old, **new}, bound))


def looked(book: Book, old: Pods, new: Pods, slow_ms: float) -> Book:
    """The book after one more look.

    A pod that was not there before begins with all it has counted: it is younger than the rollout.
    """
    errors = seen(book.errors, _wrong(book, old), _wrong(book, new))
    slow, bound = book.slow, book.bound
    if bound:
        slow = seen(slow, _slow(book, old), _slow(book, new))
    else:
        bound = _bound(old, slow_ms)
    return Book(
        book.revision, errors, slow, bound, book.at_step, book.restarts, {**_kept(book), **_last({**old, **new}, bound)}
    )


def _kept(book: Book) -> dict[str, tuple[int, int, int, int]]:
    # A pod that did not answer this time may do so the next; the oldest entries go when there are too many.
    return dict(list(book.last.items())[-2 * MAX_PODS :])


def _last(pods: Pods, bound: float) -> dict[str, tuple[int, int, int, int]]:
    found = {}
    for name, one in pods.items():
        slow = one.slow(bound)
        found[name] = (one.total, one.wrong, slow.total, slow.wrong)
    return found


def _wrong(book: Book, pods: Pods) -> Seen:
    found = Seen()
    for name, one in pods.items():
        total, wrong, _, _ = book.last.get(name, _NOTHING)
        found += _since(Seen(one.total, one.wrong), Seen(total, wrong))
    return found


def _slow(book: Book, pods: Pods) -> Seen:
    found = Seen()
    for name, one in pods.items():
        _, _, good, slow = book.last.get(name, _NOTHING)
        found += _since(one.slow(book.bound), Seen(good, slow))
    return found


def _since(now: Seen, last: Seen) -> Seen:
    if now.total < last.total or now.wrong < last.wrong:
        return now  # it began again
    total = now.total - last.total
    # The text is not one moment: a failed request may be counted on one line before the other.
    return Seen(total, min(total, now.wrong - last.wrong))


def _bound(old: Pods, slow_ms: float) -> float:
    below: dict[float, int] = {}
    for one in old.values():
        for bound, count in one.below.items():
            below[bound] = below.get(bound, 0) + count
    good = below.get(float("inf"), 0)
    finite = sorted(bound for bound in below if bound != float("inf"))
    if not finite or (good < MIN_SAMPLES and not slow_ms):
        return 0.0
    if slow_ms:
        return next((bound for bound in finite if bound >= slow_ms * 1000), finite[-1])
    return next((bound for bound in finite if below[bound] >= USUAL_SHARE * good), 0.0)


def book_text(book: Book) -> str:
    """The book in one line, for an annotation; `read_book` reads it."""
    content = {
        "revision": book.revision,
        "errors": as_json(book.errors),
        "slow": as_json(book.slow),
        "bound": book.bound,
        "at_step": book.at_step,
        "restarts": book.restarts,
        "last": book.last,
    }
    return json.dumps(content, separators=(",", ":"))


def read_book(text: str, revision: str) -> Book | None:
    """What `book_text` wrote of this revision; None for another's, and for what somebody else wrote there."""
    try:
        content = json.loads(text)
        if content["revision"] != revision:
            return None
        return Book(
            revision,
            from_json(content["errors"]),
            from_json(content["slow"]),
            float(content["bound"]),
            int(content["at_step"]),
            int(content["restarts"]),
            {
                str(pod): (int(total), int(wrong), int(good), int(slow))
                for pod, (total, wrong, good, slow) in content["last"].items()
            },
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
