"""Do two REST answers agree? Pure."""

import base64
import binascii
import math
from typing import Any

from events.gate_settings import ReplaySettings

MAX_SHOWN = 80
"""Characters of a value in words."""


def difference(old: Any, new: Any, settings: ReplaySettings, where: str = "") -> str:
    """What is different about `new`, the first of it; empty where the answers agree.

    Args:
        old: JSON, the answer that is right.
        new: JSON; keys that `old` does not have are let through.
        settings: tolerances, or how many highest places count.
        where: the path to both, for the words.
    """
    if isinstance(old, dict) and isinstance(new, dict) and not _is_bytes(old):
        for key, value in old.items():
            if key not in new:
                return f"{_at(where)}no {key!r}"
            if found := difference(value, new[key], settings, f"{where}.{key}"):
                return found
        return ""
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return f"{_at(where)}{len(new)} values instead of {len(old)}"
        if settings.top_k and len(old) > 1 and all(map(_is_number, old)) and all(map(_is_number, new)):
            return _places(old, new, settings.top_k, where)
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            if found := difference(one, other, settings, f"{where}[{index}]"):
                return found
        return ""
    if _is_number(old) and _is_number(new):
        return "" if _close(old, new, settings) else f"{_at(where)}{_shown(new)} instead of {_shown(old)}"
    same = isinstance(old, bool) == isinstance(new, bool) and _plain(old) == _plain(new)
    return "" if same else f"{_at(where)}{_shown(new)} instead of {_shown(old)}"


def _places(old: list[Any], new: list[Any], k: int, where: str) -> str:
    before, after = _top(old, k), _top(new, k)
    return "" if before == after else f"{_at(where)}highest places {sorted(after)} instead of {sorted(before)}"


def _top(values: list[Any], k: int) -> set[int]:
    # Of equal values the first counts, on both sides alike; what is no number is the lowest.
    ranked = sorted(range(len(values)), key=lambda at: (math.inf if math.isnan(values[at]) else -values[at], at))
    return set(ranked[:k])


def _close(old: float, new: float, settings: ReplaySettings) -> bool:
    if old == new or (math.isnan(old) and math.isnan(new)):
        return True
    return math.isfinite(old) and abs(new - old) <= settings.atol + settings.rtol * abs(old)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _plain(value: Any) -> Any:
    """Strings as bytes: REST spells the same bytes in two ways."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if _is_bytes(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            return value
    return value


def _at(where: str) -> str:
    return f"{where.lstrip('.')}: " if where else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
