"""What a cold start waited for, and what would change it. Pure: from a metrics page and a pod to lines for people.

Phases overlap, so their lengths do not add up. Each moment is given to the one phase that held the start up then: from
the end backwards, the phase that ended last before the next one could begin.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from functions.cold_start import OFFSET_SECONDS, PHASES, SECONDS, TOTAL

OTHER = "other"
"""Time of the process that no phase accounts for."""

SMALL_SHARE = 0.1
"""A phase with less of the whole is not worth a word of advice."""

ADVICE: Mapping[str, str] = {
    "schedule": "no node had room at once: keep spare capacity, or ask for less with --cpu and --memory",
    "image": "pulling the image: keep it on the nodes (a DaemonSet that uses it, or a registry in the cluster)",
    "container": "the container runtime: volumes, network and sandbox are made; fewer volumes help, a busy node hurts",
    "import": "the interpreter and our modules, all CPU: give the pod more with --cpu",
    "library": "opening TensorFlow's library: CPU and the page cache; give more with --cpu, use nodes with fast disks",
    "list": "looking at storage: many objects below the base path, or a store that is far away",
    "download": "reading the model: put the cache on a node-local volume (--cache pvc:CLAIM), or the store nearer",
    "load": "graph and variables: a smaller or frozen graph, unused signatures left out; more CPU",
    "warmup": "the model's own warm-up: fewer records, or fewer iterations (--num_request_iterations_for_warmup)",
    OTHER: "the process was ready to go on and did not get to run: give the pod more with --cpu",
    "ready": "between the models' being there and the pod's being ready: Knative's probes; nothing of the model's",
}

_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a cold start, in seconds.

    Attributes:
        start: from the beginning of the whole.
        seconds: its own length.
        waited: for how long it alone held the start up; these add up to the whole.
    """

    name: str
    start: float
    seconds: float
    waited: float


@dataclass(frozen=True, slots=True)
class Report:
    """One cold start.

    Attributes:
        where: the pod or the URL.
        total: seconds from the first phase's beginning to the end.
        phases: in the order of their beginnings.
        advice: what would change it, largest share first.
        cache_bytes, storage_bytes: where the model's bytes came from.
    """

    where: str
    total: float
    phases: tuple[Phase, ...]
    advice: tuple[str, ...]
    cache_bytes: int
    storage_bytes: int


def process_phases(page: str) -> dict[str, tuple[float, float]]:
    """Beginning and length of each phase, and of `total`, from a metrics page; empty where it has none."""
    rows: dict[str, dict[str, float]] = {OFFSET_SECONDS: {}, SECONDS: {}}
    for name, labels, value in _SAMPLE.findall(page):
        if name in rows:
            rows[name][dict(_LABEL.findall(labels)).get("phase", "")] = float(value)
    return {
        name: (rows[OFFSET_SECONDS].get(name, 0.0), rows[SECONDS][name])
        for name in (*PHASES, TOTAL)
        if name in rows[SECONDS]
    }


def pod_phases(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """What happened before and around the process: beginning, from the pod's creation, and length of each phase.

    The cluster's clock counts whole seconds.

    Args:
        pod: as the API server gives it.
        events: those about it.
    """
    created = _seconds(pod["metadata"]["creationTimestamp"])
    conditions = {one["type"]: one for one in pod.get("status", {}).get("conditions") or () if one["status"] == "True"}
    scheduled = _condition(conditions, "PodScheduled", created)
    started = max(
        (
            _seconds(one["state"]["running"]["startedAt"])
            for one in pod.get("status", {}).get("containerStatuses") or ()
            if one.get("state", {}).get("running") and one["name"] != "queue-proxy"
        ),
        default=scheduled,
    )
    ready = _condition(conditions, "Ready", started)
    pulls = sorted(_event_seconds(one) for one in events if one.get("reason") in {"Pulling", "Pulled"})
    # `Pulled` without `Pulling` says that the image was there.
    pulled = (pulls[0], pulls[-1]) if any(one.get("reason") == "Pulling" for one in events) else (started, started)
    return {
        "schedule": (0.0, scheduled - created),
        "image": (pulled[0] - created, pulled[1] - pulled[0]),
        "container": (scheduled - created, max(0.0, started - scheduled - (pulled[1] - pulled[0]))),
        "process": (started - created, 0.0),
        "ready": (0.0, ready - created),
    }


def report(where: str, page: str, pod: Mapping[str, tuple[float, float]] | None = None) -> Report | None:
    """A cold start from what was found out; None where the page has no complete one.

    Args:
        where: for people.
        page: the text of the metrics.
        pod: as `pod_phases` gives it; None for a process of which no more is known.
    """
    process = process_phases(page)
    if TOTAL not in process:
        return None
    before = pod["process"][0] if pod else 0.0
    end = before + process[TOTAL][1]
    spans = {name: (before + start, seconds) for name, (start, seconds) in process.items() if name != TOTAL}
    held = {name: seconds for name, seconds in _held_up(spans, before, end).items() if seconds > 0}
    if pod is not None:
        for name in ("schedule", "image", "container"):
            spans[name] = pod[name]
            held[name] = pod[name][1]
        total = max(end, pod["ready"][1])
        spans["ready"], held["ready"] = (end, total - end), total - end
    else:
        total = end
    phases = [Phase(name, start, seconds, held.pop(name, 0.0)) for name, (start, seconds) in spans.items()]
    phases += [Phase(name, before, seconds, seconds) for name, seconds in held.items()]
    ordered = tuple(sorted((one for one in phases if one.seconds > 0), key=lambda one: one.start))
    largest = sorted(ordered, key=lambda one: -one.waited)
    advice = tuple(
        f"{one.name} {one.waited / total:.0%}: {ADVICE[one.name]}"
        for one in largest
        if total > 0 and one.waited / total >= SMALL_SHARE
    )
    sources = {
        dict(_LABEL.findall(labels)).get("source", ""): int(float(value))
        for name, labels, value in _SAMPLE.findall(page)
        if name == "zeroserve_cache_bytes_total"
    }
    return Report(where, total, ordered, advice, sources.get("cache", 0), sources.get("storage", 0))


def text(found: Report) -> str:
    """A report for a terminal."""
    lines = [f"{found.where}: {found.total:.2f} s", "  phase        from s   for s  held up"]
    lines += [
        f"  {one.name:10} {one.start:8.2f} {one.seconds:7.2f}  {one.waited / found.total:6.0%}"
        for one in found.phases
        if one.seconds >= 0.005
    ]
    if found.cache_bytes or found.storage_bytes:
        lines.append(f"  {found.storage_bytes} bytes from storage, {found.cache_bytes} from the cache")
    lines += [f"  - {line}" for line in found.advice]
    return "\n".join(lines)


def _held_up(spans: Mapping[str, tuple[float, float]], begin: float, end: float) -> dict[str, float]:
    """By phase, the time for which it held the start up, from `end` backwards to `begin`; they add up."""
    held: dict[str, float] = {}
    now = end
    left = dict(spans)
    while now > begin:
        last = max(
            (name for name, (start, _) in left.items() if start < now),
            key=lambda name: (min(now, left[name][0] + left[name][1]), left[name][0]),
            default=None,
        )
        start, stop = (begin, begin) if last is None else (left[last][0], min(now, sum(left.pop(last))))
        held[OTHER] = held.get(OTHER, 0.0) + max(0.0, now - max(stop, begin))
        if last is not None:
            held[last] = max(0.0, stop - max(start, begin))
        now = min(stop, max(start, begin))
    return held


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _condition(conditions: Mapping[str, Mapping[str, Any]], kind: str, otherwise: float) -> float:
    stamp = conditions.get(kind, {}).get("lastTransitionTime")
    return _seconds(stamp) if stamp else otherwise


def _event_seconds(event: Mapping[str, Any]) -> float:
    return _seconds(event.get("eventTime") or event.get("firstTimestamp") or event["metadata"]["creationTimestamp"])
