"""Is the new revision worse? A sequential test of two shares that may be looked at as often as one likes. Pure.

Two revisions answer at the same time; some requests of each go wrong (fail, or are slow). The question is whether the
new one's true share is higher. A test made for one look (chi-square, t) is wrong for most looks: looked at after each
minute, it takes back one good version in a few. An e-process is not: under "no worse" its expected value never exceeds
1, whatever is looked at and whenever one stops, so it reaches 1/alpha with a probability of at most alpha (Ville).

A block is what was seen between two looks: `m` answers of the old revision and `n` of the new one. For any guesses
a < b made before the block, with c = (m a + n b) / (m + n), the product over all answers y of

    old: p_a(y) / p_c(y)      new: p_b(y) / p_c(y)      where p_s(1) = s, p_s(0) = 1 - s

has an expected value of at most 1 for all true shares with new <= old: each answer contributes
1 + (a - c)(p_old - c)/(c(1 - c)) or 1 + (b - c)(p_new - c)/(c(1 - c)); by the inequality of means their product is at
most (1 + n (b - c)(p_new - p_old) / ((m + n) c(1 - c)))^(m + n). So it is exact for small counts and rare errors, where
normal approximations (and the mSPRT built on them) are not. Products over blocks stay so when the guesses come from
earlier blocks only, and so does a mean of several such products.

Source: Turner, Ly, Gruenwald: Generic E-variables for exact sequential k-sample tests that allow for optional stopping,
J. Statistical Planning and Inference 230 (2024), arXiv:2106.02693, section 2; Ville's inequality; for the approximate
relative: Johari, Pekelis, Walsh: Always valid inference, Operations Research 70 (2022), arXiv:1512.04922.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

RATIOS = (2.0, 5.0, 0.0)
"""Guesses of how much higher the new share is, each with a product of its own; 0 guesses by what was seen so far."""

PRIOR_WRONG = 0.5
PRIOR_SEEN = 50.0
"""What a share is taken for before anything is seen: 1 in 100, and given up after some dozens of answers."""

MAX_SHARE = 0.999
MIN_SHARE = 1e-7
MAX_LOG = 700.0
"""Beyond, a product is kept at this: e^700 is evidence enough, and finite."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Answers of one revision: how many, and how many of them went wrong."""

    total: int = 0
    wrong: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(self.total + other.total, self.wrong + other.wrong)

    @property
    def share(self) -> float:
        """Of the wrong ones; 0 where nothing was seen."""
        return self.wrong / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known so far that the new revision is worse.

    Attributes:
        old, new: all that was seen and counted.
        pending_old, pending_new: seen, but not counted yet: one side had nothing to compare with.
        logs: logarithm of each product, one for each of `RATIOS`.
    """

    old: Seen = Seen()
    new: Seen = Seen()
    pending_old: Seen = Seen()
    pending_new: Seen = Seen()
    logs: tuple[float, ...] = (0.0,) * len(RATIOS)

    @property
    def value(self) -> float:
        """The e-value: as large with probability 1/value at most, if the new revision is no worse."""
        return sum(map(math.exp, self.logs)) / len(self.logs)

    def is_worse(self, alpha: float, margin: float) -> bool:
        """Whether the new revision is worse by all the evidence, and by more than `margin`."""
        return self.value >= 1 / alpha and self.new.share - self.old.share > margin


def seen(evidence: Evidence, old: Seen, new: Seen) -> Evidence:
    """The evidence after one more look.

    Args:
        evidence: so far.
        old, new: what was seen since. When one looks must not depend on how many went wrong; what is done then may.
    """
    old, new = evidence.pending_old + old, evidence.pending_new + new
    if not old.total or not new.total:
        return replace(evidence, pending_old=old, pending_new=new)
    logs = tuple(
        min(MAX_LOG, log + _block(old, new, *_guesses(evidence, ratio)))
        for log, ratio in zip(evidence.logs, RATIOS, strict=True)
    )
    return Evidence(evidence.old + old, evidence.new + new, logs=logs)


def _guesses(evidence: Evidence, ratio: float) -> tuple[float, float]:
    """The shares to bet on for the next block, from what was seen before it."""
    both = evidence.old + evidence.new
    if ratio:
        low = _smoothed(evidence.old if evidence.old.total >= PRIOR_SEEN else both)
        return low, min(MAX_SHARE, low * ratio)
    return _smoothed(evidence.old), _smoothed(evidence.new)


def _smoothed(one: Seen) -> float:
    return min(MAX_SHARE, max(MIN_SHARE, (one.wrong + PRIOR_WRONG) / (one.total + PRIOR_SEEN)))


def _block(old: Seen, new: Seen, low: float, high: float) -> float:
    """Logarithm of the product for one block; 0, which says nothing, where the guess is not that new is worse."""
    if high <= low:
        return 0.0
    middle = (old.total * low + new.total * high) / (old.total + new.total)
    return _log_ratio(old, low, middle) + _log_ratio(new, high, middle)


def _log_ratio(one: Seen, guess: float, middle: float) -> float:
    right = one.total - one.wrong
    return one.wrong * (math.log(guess) - math.log(middle)) + right * (math.log1p(-guess) - math.log1p(-middle))


def as_json(evidence: Evidence) -> list[float]:
    """The evidence as a short list, for an annotation; `from_json` reads it."""
    counts = (evidence.old, evidence.new, evidence.pending_old, evidence.pending_new)
    numbers: list[float] = [number for one in counts for number in (one.total, one.wrong)]
    return numbers + [round(log, 6) for log in evidence.logs]


def from_json(numbers: Sequence[float]) -> Evidence:
    """What `as_json` wrote.

    Raises:
        ValueError: something else.
    """
    if len(numbers) != 8 + len(RATIOS) or any(not math.isfinite(number) for number in numbers):
        raise ValueError(f"evidence of {len(numbers)} numbers")
    old, new, waits_old, waits_new = (Seen(int(numbers[at]), int(numbers[at + 1])) for at in range(0, 8, 2))
    return Evidence(old, new, waits_old, waits_new, tuple(map(float, numbers[8:])))
