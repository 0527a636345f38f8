"""Confidence intervals for what two revisions did: shares, differences of shares, quantiles of a histogram. Pure.

Sources: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927 (one share);
Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998,
method 10 (two shares); Welch, "The generalization of Student's problem", Biometrika 34, 1947 (two means); David and
Nagaraja, "Order Statistics", section 7.1 (quantiles without a distribution).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95
"""Of every interval here, two-sided."""

MIN_SAMPLES = 30
"""From which on the mean of samples is taken to be normal."""

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


class Interval(NamedTuple):
    """An estimate and what it may as well be; NaN where nothing is known."""

    value: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def share(count: float, total: float) -> Interval:
    """The share `count / total` with Wilson's interval; `0 <= count <= total`."""
    if total <= 0:
        return UNKNOWN
    value = count / total
    square = _Z * _Z / total
    middle = (value + square / 2) / (1 + square)
    half = _Z * math.sqrt(value * (1 - value) / total + square / (4 * total)) / (1 + square)
    return Interval(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))


def difference(one: Interval, other: Interval) -> Interval:
    """`other - one` of two independent shares, with Newcombe's interval; of two means with Welch's, for many samples.

    Both are the same sum of squares of the half widths.
    """
    value = other.value - one.value
    low = value - math.hypot(other.value - other.low, one.high - one.value)
    high = value + math.hypot(other.high - other.value, one.value - one.low)
    return Interval(value, low, high)


def mean(count: float, total: float, squares: float) -> Interval:
    """The mean of `count` samples by their sum and the sum of their squares.

    Samples that are all 0 or 1 (their squares are themselves) are a share, with its interval. All others have the
    normal one, which is no use for few: below `MIN_SAMPLES` it is infinite.
    """
    if count <= 0:
        return UNKNOWN
    if squares == total and total % 1 == 0 and total <= count:
        return share(total, count)
    value = total / count
    if count < MIN_SAMPLES:
        return Interval(value, -math.inf, math.inf)
    variance = max(0.0, (squares - count * value * value) / (count - 1))
    half = _Z * math.sqrt(variance / count)
    return Interval(value, value - half, value + half)


def quantile(bounds: Sequence[float], counts: Sequence[float], q: float) -> Interval:
    """The `q` quantile (between 0 and 1) of a histogram.

    The value is interpolated in its bucket; the interval reaches to the bounds of the buckets that hold the two ranks,
    so it is never narrower than a bucket.

    Args:
        bounds: upper bounds, ascending; the last bucket has none: infinity.
        counts: of each bucket, not cumulated.
        q: which.
    """
    total = sum(counts)
    if total <= 0:
        return UNKNOWN
    spread = _Z * math.sqrt(total * q * (1 - q))
    rank = q * total
    first, last = max(1.0, math.floor(rank - spread)), min(total, math.ceil(rank + spread) + 1)
    index, before = _bucket(counts, rank)
    low, high = _edges(bounds, index)
    value = low if math.isinf(high) else low + (high - low) * (rank - before) / counts[index]
    return Interval(value, _edges(bounds, _bucket(counts, first)[0])[0], _edges(bounds, _bucket(counts, last)[0])[1])


def _bucket(counts: Sequence[float], rank: float) -> tuple[int, float]:
    """The bucket that holds the sample of a rank, and how many samples are before it."""
    before = 0.0
    for index, count in enumerate(counts):
        if count and before + count >= rank:
            return index, before
        before += count
    return len(counts) - 1, before


def _edges(bounds: Sequence[float], index: int) -> tuple[float, float]:
    return (bounds[index - 1] if index else 0.0), (bounds[index] if index < len(bounds) else math.inf)
