"""Whether a split is what it was asked to be: Pearson's chi-square test of the counts against the weights. Pure.

A split that is off by more than chance says that something else differs between the arms (one that loses requests, a
client that avoids it): whatever else is then compared is not to be trusted.

The test takes requests as independent. Where users keep their arm they are not: a few busy users move the count, and
the test cries wolf. Source: Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments", KDD
2019.
"""

import math
from collections.abc import Mapping

THRESHOLD = 0.001
"""A smaller p-value is a mismatch."""

MIN_EXPECTED = 5.0
"""Requests that every arm must be due, or the test says nothing. Source: Cochran, Biometrics 10, 1954."""


def p_value(counts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The probability of counts as far from the weights as these, or further; NaN where that cannot be said.

    Args:
        counts: requests by arm.
        weights: above 0 for at least two arms; arms without one are left out.
    """
    arms = [arm for arm, weight in weights.items() if weight > 0]
    total = sum(counts.get(arm, 0) for arm in arms)
    weight = sum(weights[arm] for arm in arms)
    due = {arm: total * weights[arm] / weight for arm in arms}
    if len(arms) < 2 or min(due.values()) < MIN_EXPECTED:
        return math.nan
    statistic = sum((counts.get(arm, 0) - due[arm]) ** 2 / due[arm] for arm in arms)
    return survival(statistic, len(arms) - 1)


def survival(statistic: float, freedom: int) -> float:
    """The upper tail of the chi-square distribution with `freedom` (1 or more) degrees of freedom.

    Source: Abramowitz and Stegun, 26.4.4 and 26.4.5.
    """
    half = statistic / 2
    if freedom % 2:
        total, term = math.erfc(math.sqrt(half)), math.exp(-half) * math.sqrt(half) / math.gamma(1.5)
        first = 1
    else:
        total, term = math.exp(-half), math.exp(-half) * half
        first = 2
    for step in range(first, freedom - 1, 2):
        total += term
        term *= half / (step / 2 + 1)
    return total
