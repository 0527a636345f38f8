"""Gates first, then one step after the other for as long as the new revision does no worse: a `Rollout` for landing.

A rollout is `knative.progression`'s, whose first step gives 0 percent: the new revision has its tag, nobody else
reaches it, and the gates ask it. Once they pass, each further step needs its pause, enough requests, and no evidence
that the new revision fails or dawdles more than the old one. Both are read from pods' metrics at each look, and kept in
a book on the Service. So nothing is remembered here but verdicts of gates, which cost something to find; another
process that takes over asks the gates again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from events.gate import Gate, GateUnsureError, Subject, Verdict
from events.gate_bench import Bench
from events.gate_http import Peer
from events.gate_settings import GateSettings, gate_settings
from events.health_counts import Book, Pods, begun, book_text, looked, read_book
from events.rollout_hook import Decision, Hold, Move, Situation, Stop, Told
from knative import keys
from knative.names import digest, version_of, version_tag
from knative.policy import AllAtOnce, Canary, Keep, Policy, Steps
from knative.progression import Health, Phase, Progress, advance, note, noted, policy_of
from knative.progression import Verdict as Judgement
from knative.rollout import Pin
from knative.traffic import WHOLE, shares

MIN_GATE_SECONDS = 0.2
MAX_GATE_SECONDS = 5.0
"""Between two looks while gates are at work: a quarter of the time they have been, within these."""

UNSURE_SECONDS = 10.0
"""Before gates that could not look are asked again."""

LOOK_SECONDS = 5.0
"""Between two looks at a revision that has a share; the sweep looks when nobody else does."""

MAX_BOOK = 100_000
"""Characters of a book; all annotations of an object share 262,144 bytes."""

Pods_of = Callable[[str, str, str], Pods]
Restarts_of = Callable[[str, str], int]


class Gated:
    """Decides. Safe from any thread.

    Args:
        gates: asked in this order.
        bench: where they work.
        address: the peer behind a tag: (namespace, service, tag, revision).
        pods: counters of a revision's pods: (namespace, revision, model).
        restarts: of a revision's containers: (namespace, revision).
        clock: seconds since 1970.
    """

    def __init__(
        self,
        gates: Sequence[Gate],
        bench: Bench,
        address: Callable[[str, str, str, str], Peer],
        *,
        pods: Pods_of,
        restarts: Restarts_of,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gates = gates
        self._bench = bench
        self._address = address
        self._pods = pods
        self._restarts = restarts
        self._clock = clock

    def decide(self, situation: Situation) -> Decision:
        """See `events.rollout_hook.Rollout`.

        Raises:
            DeployError: the gates that are declared make no sense, or the cluster cannot be asked.
        """
        settings = gate_settings(situation.declaration.gates)
        progress = noted(situation.resource)
        if progress is None or progress.revision != situation.new:
            return self._first(situation, settings)
        if progress.phase is Phase.STEPPING:
            return (
                self._gate(situation, settings, progress)
                if not progress.percent
                else self._look(situation, settings, progress)
            )
        if progress.phase is Phase.ROLLED_BACK:
            if not progress.percent and _note(situation, keys.GATES) != _gates_digest(settings):
                return self._begin(situation, settings)
            return Stop(progress.why)
        return _as_it_is(situation)

    def _first(self, situation: Situation, settings: GateSettings) -> Decision:
        observed = situation.observed
        known = any(target.revision == situation.new and target.tag for target in observed.traffic)
        if observed.changed_by_others or known:
            return _as_it_is(situation)  # whoever gave it a tag or a share decided about it already
        return self._begin(situation, settings)

    def _begin(self, situation: Situation, settings: GateSettings) -> Decision:
        """Nothing but a tag, which gates need; where nobody serves there is nobody to protect."""
        now = self._clock()
        before = {name: share for name, share in shares(situation.observed.traffic).items() if name != situation.new}
        if not before:
            return Move(AllAtOnce())
        percents, pause = _percents(situation.declaration.rollout)
        progress = Progress(situation.new, before, (0, *percents), pause, 0, now, why="gates are looking")
        annotations = {**note(progress), keys.GATES: _gates_digest(settings), keys.HEALTH: ""}
        return Move(Canary(0), annotations, 0.0)

    def _gate(self, situation: Situation, settings: GateSettings, progress: Progress) -> Decision:
        verdict: Verdict | None
        subject = self._subject(situation, settings)
        try:
            verdict = self._bench.verdict(f"{situation.namespace}/{situation.new}", self._gates, subject)
        except GateUnsureError as error:
            return Stop(f"gates cannot look: {error}", again=UNSURE_SECONDS)
        if verdict is None:
            quarter = (self._clock() - progress.since) / 4
            return Hold("gates are looking", min(MAX_GATE_SECONDS, max(MIN_GATE_SECONDS, quarter)))
        judged = Judgement(Health.GOOD if verdict.passed else Health.BAD, verdict.words)
        now = self._clock()
        after = advance(replace(progress, pause_seconds=0), situation.observed, now, judged)
        after = replace(after, pause_seconds=progress.pause_seconds)
        if after.phase is Phase.ROLLED_BACK:
            return Stop(after.why, note(after), (_told("failed", situation, after),))
        if after.phase is Phase.STOPPED:
            return Move(_pin(situation), note(after))
        book = begun(situation.new, *self._both(situation), self._restarted(situation), settings.health.slow_ms)
        return self._moved(situation, after, book)

    def _look(self, situation: Situation, settings: GateSettings, progress: Progress) -> Decision:
        health = settings.health
        book = read_book(_note(situation, keys.HEALTH), situation.new)
        old, new = self._both(situation)
        restarted = self._restarted(situation)
        book = (
            looked(book, old, new, health.slow_ms)
            if book is not None
            else begun(situation.new, old, new, restarted, health.slow_ms)
        )
        now = self._clock()
        judged = _judged(situation, settings, progress, book, restarted=restarted - book.restarts, now=now)
        after = advance(progress, situation.observed, now, judged)
        return self._moved(situation, after, book)

    def _moved(self, situation: Situation, after: Progress, book: Book) -> Decision:
        before = noted(situation.resource)
        stepped = before is None or before.step != after.step
        if stepped:
            book = replace(book, at_step=book.asked)
        text = book_text(book)
        annotations = {**note(after), keys.HEALTH: text if len(text) <= MAX_BOOK else ""}
        told: tuple[Told, ...] = ()
        if after.phase is Phase.PROMOTED:
            told = (_told("promoted", situation, after),)
        elif after.phase is Phase.ROLLED_BACK:
            told = (_told("rolled_back", situation, after),)
        elif stepped:
            told = (_told("step", situation, after),)
        policy = policy_of(after, situation.observed) or _pin(situation)
        again = LOOK_SECONDS if after.phase is Phase.STEPPING else None
        return Move(policy, annotations, again, told)

    def _subject(self, situation: Situation, settings: GateSettings) -> Subject:
        deployment = situation.declaration.deployment
        old_version = version_of(deployment.name, situation.old) if situation.old else None

        def peer(version: int, revision: str) -> Peer:
            return self._address(situation.namespace, deployment.name, version_tag(version), revision)

        return Subject(
            deployment.model or deployment.name,
            situation.version,
            deployment.url,
            settings,
            peer(situation.version, situation.new),
            None if old_version is None or situation.old is None else peer(old_version, situation.old),
            old_version,
        )

    def _both(self, situation: Situation) -> tuple[Pods, Pods]:
        deployment = situation.declaration.deployment
        model = deployment.model or deployment.name
        old = self._pods(situation.namespace, situation.old, model) if situation.old else {}
        return old, self._pods(situation.namespace, situation.new, model)

    def _restarted(self, situation: Situation) -> int:
        return self._restarts(situation.namespace, situation.new)


def _judged(
    situation: Situation, settings: GateSettings, progress: Progress, book: Book, *, restarted: int, now: float
) -> Judgement:
    """What the book says of the new revision."""
    health = settings.health
    if not situation.observed.revisions.get(situation.new):
        return Judgement(Health.BAD, "the revision is not ready any more")
    if restarted > health.max_restarts:
        return Judgement(Health.BAD, f"its containers began again {restarted} times")
    # Two questions share the chance of a false alarm.
    if book.errors.is_worse(health.alpha / 2, health.error_margin):
        return Judgement(Health.BAD, _compared("requests failed", book.errors.new, book.errors.old))
    if book.slow.is_worse(health.alpha / 2, health.slow_margin):
        words = f"answers took more than {book.bound / 1000:.3g} ms"
        return Judgement(Health.BAD, _compared(words, book.slow.new, book.slow.old))
    if isinstance(situation.declaration.rollout, Canary):
        return Judgement(Health.UNKNOWN, f"it stays at {progress.percent}% until zeroserve promote")
    asked = book.asked - book.at_step
    if asked >= health.min_requests:
        return Judgement(Health.GOOD)
    if now - progress.since >= max(health.max_wait_seconds, progress.pause_seconds) and health.quiet != "wait":
        if health.quiet == "advance":
            return Judgement(Health.GOOD)
        return Judgement(Health.BAD, f"only {asked} requests in {health.max_wait_seconds} s")
    return Judgement(Health.UNKNOWN, f"{health.min_requests} requests are wanted before the next step")


def _compared(words: str, new: Any, old: Any) -> str:
    return (
        f"{new.wrong} of {new.total} {words} ({new.share:.2%}), "
        f"against {old.wrong} of {old.total} ({old.share:.2%}) of the version before"
    )


def _percents(policy: Policy) -> tuple[tuple[int, ...], int]:
    match policy:
        case Steps(percents, pause):
            return percents, pause
        case Canary(percent) if 0 < percent < WHOLE:
            return (percent, WHOLE), 0
    return (WHOLE,), 0


def _as_it_is(situation: Situation) -> Move:
    return Move(_pin(situation))


def _pin(situation: Situation) -> Pin | Keep:
    there = shares(situation.observed.traffic)
    return Pin(there) if there and "" not in there else Keep()


def _note(situation: Situation, key: str) -> str:
    annotations: Mapping[str, str] = situation.resource.get("metadata", {}).get("annotations") or {}
    return annotations.get(key, "")


def _gates_digest(settings: GateSettings) -> str:
    """Changes when the gates do: then a version that failed may try again."""
    return digest({name: value for name, value in asdict(settings).items() if name != "health"})


def _told(kind: str, situation: Situation, progress: Progress) -> Told:
    data: dict[str, Any] = {
        "revision": progress.revision,
        "version": situation.version,
        "percent": 0 if progress.phase is Phase.ROLLED_BACK else progress.percent,
    }
    return kind, data | ({"reason": progress.why} if progress.why else {})
