"""Which arm a user belongs to: a pure function of the key and the weights, the same in every pod.

Weighted rendezvous hashing: every arm draws a number for the key, and the largest wins. An arm's draw does not depend
on the other arms, so when weights change, a user moves only to an arm that gained on the one they had. With two arms
that is the least that any rule must move (80/20 to 70/30 moves a tenth); with more, at most twice that.

Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005 (the logarithmic method); Thaler and
Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 6(1), 1998.
"""

import hashlib
import math
from collections.abc import Sequence

from functions.routing.table import Arm

_BITS = 52
"""Bits of a hash that a float holds exactly with a half behind them."""


def choose_arm(arms: Sequence[Arm], key: bytes) -> str:
    """The tag of the arm that the user of `key` belongs to; `arms` is not empty, and not all weights are 0."""
    chosen, best = "", -math.inf
    for arm in arms:
        if arm.weight:
            draw = -arm.weight / math.log(_uniform(arm.tag, key))
            if draw > best:
                chosen, best = arm.tag, draw
    return chosen


def _uniform(tag: str, key: bytes) -> float:
    """A number between 0 and 1, neither of them included."""
    digest = hashlib.blake2b(key, digest_size=8, key=tag.encode()).digest()
    return ((int.from_bytes(digest, "big") >> (64 - _BITS)) + 0.5) * 2.0**-_BITS
