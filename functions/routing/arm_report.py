"""What the revisions of a service did, side by side: errors, latency, the split, the shadow. Pure; needs no numpy.

An error is what the server is to blame for: a status that is 5xx or 429 in HTTP. What callers did wrong counts neither
as an error nor as a success of an arm, since arms share their callers' mistakes by chance only.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from functions.routing.exposition import Totals
from functions.routing.interval import UNKNOWN, Interval, difference, mean, quantile, share
from functions.routing.sample_ratio import THRESHOLD, p_value
from functions.tap.outcomes import COUNT, SQUARES, SUM
from functions.web.message import HTTP_STATUS
from loader.status import Code

QUANTILES = (0.5, 0.95, 0.99)
_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One revision.

    Attributes:
        tag: of its version.
        percent: of the traffic that it is to get.
        pods: how many answered the question.
        good, errors, refused: requests by what became of them.
        error_share: `errors` of `good + errors`.
        milliseconds: quantile -> latency of good requests.
        against_first: how the share of errors differs from the first arm's; unknown for the first.
        outcomes: that feedback told of its answers.
        outcome: their mean.
        outcome_against_first: how it differs from the first arm's; unknown for the first.
    """

    tag: str
    percent: float
    pods: int
    good: float
    errors: float
    refused: float
    error_share: Interval
    milliseconds: Mapping[float, Interval]
    against_first: Interval
    outcomes: float = 0.0
    outcome: Interval = UNKNOWN
    outcome_against_first: Interval = UNKNOWN


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What the shadow said of one arm's answers.

    Attributes:
        results: copies by result.
        different_share: of the copies that were compared.
        top_same: of the rows of scores.
        differences: quantile -> largest absolute difference of an answer.
    """

    arm: str
    shadow: str
    results: Mapping[str, float]
    different_share: Interval
    top_same: Interval
    differences: Mapping[float, Interval]


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """The whole service.

    Attributes:
        arms: the one with most traffic first.
        splits: what chose the arm -> the probability of a split as far off as this, where there is enough to say:
            `arrival` for the cluster's traffic block; `user` for the users' keys, where the requests of one user are
            not independent, so that a small probability is no proof.
    """

    arms: tuple[ArmReport, ...]
    splits: Mapping[str, float]
    shadows: tuple[ShadowReport, ...]

    @property
    def mismatch(self) -> bool:
        """Whether the split is not what it was asked to be, as far as chance can tell."""
        return self.splits.get("arrival", 1.0) < THRESHOLD


def report(
    model: str, percents: Mapping[str, float], pods: Mapping[str, int], totals: Mapping[str, Totals]
) -> ServiceReport:
    """Side by side.

    Args:
        model: the name that requests call it by.
        percents: tag -> percent of the traffic.
        pods: tag -> pods that were asked.
        totals: tag -> what they said.
    """
    arms: list[ArmReport] = []
    for tag in sorted(percents, key=lambda tag: (-percents[tag], tag)):
        one = _arm(model, tag, percents[tag], totals.get(tag, Totals()))
        against = difference(arms[0].error_share, one.error_share) if arms else UNKNOWN
        arms.append(replace(one, pods=pods.get(tag, 0), against_first=against))
    summed = Totals()
    for each in totals.values():
        summed.take(each)
    arms = _with_outcomes(model, arms, summed)
    chosen: dict[str, dict[str, float]] = {}
    for (arm, by), count in summed.by("zeroserve_arm_requests_total", "arm", "by").items():
        chosen.setdefault(by, {})[arm] = count
    splits = {by: p for by, counts in sorted(chosen.items()) if not math.isnan(p := p_value(counts, percents))}
    return ServiceReport(tuple(arms), splits, tuple(_shadows(summed)))


def _arm(model: str, tag: str, percent: float, totals: Totals) -> ArmReport:
    good = errors = refused = 0.0
    for (name, status), count in totals.by(_COUNT, "model_name", "status").items():
        if name != model:
            continue
        if status == Code.OK.name:
            good += count
        elif _is_error(status):
            errors += count
        else:
            refused += count
    error_share = share(errors, good + errors)
    bounds, counts = totals.histogram(_LATENCY, model_name=model)
    return ArmReport(
        tag,
        percent,
        0,
        good,
        errors,
        refused,
        error_share,
        {q: _scaled(quantile(bounds, counts, q), 1e-3) for q in QUANTILES},
        UNKNOWN,
    )


def _with_outcomes(model: str, arms: Sequence[ArmReport], summed: Totals) -> list[ArmReport]:
    """The arms with their outcomes, which any pod may have been told: the label says whose they are."""
    columns = [summed.by(name, "model_name", "version") for name in (COUNT, SUM, SQUARES)]
    found: list[ArmReport] = []
    for arm in arms:
        count, total, squares = (column.get((model, arm.tag.removeprefix("v")), 0.0) for column in columns)
        outcome = mean(count, total, squares)
        against = difference(found[0].outcome, outcome) if found else UNKNOWN
        found.append(replace(arm, outcomes=count, outcome=outcome, outcome_against_first=against))
    return found


def _is_error(status: str) -> bool:
    http = HTTP_STATUS[Code[status]] if status in Code.__members__ else 500
    return http >= 500 or http == 429


def _shadows(summed: Totals) -> list[ShadowReport]:
    results: dict[tuple[str, str], dict[str, float]] = {}
    tops: dict[tuple[str, str], dict[str, float]] = {}
    for (arm, shadow, result), count in summed.by("zeroserve_shadow_total", "arm", "shadow", "result").items():
        results.setdefault((arm, shadow), {})[result] = count
    for (arm, shadow, top), count in summed.by("zeroserve_shadow_top_rows_total", "arm", "shadow", "top").items():
        tops.setdefault((arm, shadow), {})[top] = count
    found = []
    for (arm, shadow), by_result in sorted(results.items()):
        same, different = by_result.get("same", 0.0), by_result.get("different", 0.0)
        rows = tops.get((arm, shadow), {})
        bounds, counts = summed.histogram("zeroserve_shadow_difference", arm=arm, shadow=shadow)
        found.append(
            ShadowReport(
                arm,
                shadow,
                by_result,
                share(different, same + different),
                share(rows.get("same", 0.0), sum(rows.values())),
                {q: quantile(bounds, counts, q) for q in QUANTILES},
            )
        )
    return found


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(*(number * factor for number in interval))


def lines(found: ServiceReport) -> list[str]:
    """The report for people."""
    text = ["revision  traffic  pods  good  errors  refused  errors of all (95%)   p50 / p95 / p99 ms (95%)"]
    for arm in found.arms:
        latency = " / ".join(_interval(arm.milliseconds[q], "{:.3g}") for q in QUANTILES)
        text.append(
            f"{arm.tag:<9} {arm.percent:6g}%  {arm.pods:4}  {arm.good:.0f}  {arm.errors:.0f}  {arm.refused:.0f}  "
            f"{_interval(arm.error_share, '{:.3%}')}  {latency}"
        )
    for arm in found.arms[1:]:
        if not math.isnan(arm.against_first.value):
            low, high = arm.against_first.low, arm.against_first.high
            verdict = "more errors" if low > 0 else "fewer errors" if high < 0 else "no clear difference in errors"
            against = _interval(arm.against_first, "{:+.3%}")
            text.append(f"{arm.tag} against {found.arms[0].tag}: {against} errors: {verdict}")
    text.extend(_outcome_lines(found))
    for by, p in found.splits.items():
        verdict = "as asked for"
        if p < THRESHOLD:
            verdict = "NOT what was asked for: do not trust the comparison"
            if by == "user":
                verdict = "not what was asked for; a few busy users are enough for that"
        text.append(f"split by {by}: {verdict} (chi-square, p = {p:.3g})")
    for shadow in found.shadows:
        results = ", ".join(f"{count:.0f} {result}" for result, count in sorted(shadow.results.items()))
        text.append(f"shadow {shadow.shadow} of {shadow.arm}: {results}")
        text.append(f"  different: {_interval(shadow.different_share, '{:.3%}')} of the answers compared")
        if not math.isnan(shadow.top_same.value):
            text.append(f"  same top score: {_interval(shadow.top_same, '{:.3%}')} of the rows")
        if not math.isnan(shadow.differences[0.5].value):
            largest = " / ".join(_interval(shadow.differences[q], "{:.2g}") for q in QUANTILES)
            text.append(f"  largest difference, p50 / p95 / p99: {largest}")
    return text


def _outcome_lines(found: ServiceReport) -> Iterator[str]:
    for arm in found.arms:
        if arm.outcomes:
            yield f"{arm.tag} outcomes: {arm.outcomes:.0f}, mean {_interval(arm.outcome, '{:.4g}')}"
    for arm in found.arms[1:]:
        against = arm.outcome_against_first
        if not math.isnan(against.value):
            verdict = "higher" if against.low > 0 else "lower" if against.high < 0 else "no clear difference"
            words = _interval(against, "{:+.4g}")
            yield f"{arm.tag} against {found.arms[0].tag}: {words} mean outcome: {verdict}"


def _interval(interval: Interval, form: str) -> str:
    if math.isnan(interval.value):
        return "-"
    value, low, high = (form.format(number) for number in interval)
    return f"{value} [{low}, {high}]"


def as_json(value: object) -> object:
    """A report as JSON's values: what is unknown is null, and so is infinity."""
    if isinstance(value, Interval):
        return {name: as_json(number) for name, number in value._asdict().items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): as_json(member) for key, member in value.items()}
    if isinstance(value, tuple):
        return [as_json(member) for member in value]
    if hasattr(value, "__slots__"):
        return {name: as_json(getattr(value, name)) for name in value.__slots__}
    return value
