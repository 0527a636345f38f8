"""The pieces that queries of dashboards and rules of alerts are made of. Pure."""

REQUESTS = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency_bucket"

ERRORS = "UNKNOWN|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS"
"""Statuses that a server is to blame for: 5xx and 429 in HTTP, as `zeroserve compare` counts them."""


def rate(metric: str, window: str, where: str = "") -> str:
    """How fast a counter grows, per second."""
    return f"rate({metric}{{{where}}}[{window}])"


def summed(by: str, what: str) -> str:
    """A sum over everything but some labels."""
    return f"sum by ({by}) ({what})"


def quantile(share: float, by: str, buckets: str, window: str, where: str = "") -> str:
    """A quantile of a histogram."""
    joined = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {summed(joined, rate(buckets, window, where))})"


def share(by: str, bad: str, good: str) -> str:
    """The share of the bad ones, 0 where nothing was bad."""
    return f"({summed(by, bad)} or {summed(by, good)} * 0) / ({summed(by, f'{bad} or {good}')})"


def mean(by: str, histogram: str, window: str, where: str = "") -> str:
    """The mean of what a histogram counted."""
    parts = (summed(by, rate(f"{histogram}_{part}", window, where)) for part in ("sum", "count"))
    return " / ".join(parts)


def grown(counter: str, window: str) -> str:
    """What a counter grew by, where it did.

    A series that begins within the window begins with its first number, which `increase` does not see as growth.
    """
    return f"(increase({counter}[{window}]) > 0 or {counter} unless {counter} offset {window})"
