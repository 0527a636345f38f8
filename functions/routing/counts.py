"""What routing counts. Thread safety: as `functions/observing/metrics.py`."""

from functions.observing.metrics import Counter, Histogram, Metrics
from functions.routing.router import Decision, Why

SECONDS_BOUNDS: tuple[float, ...] = tuple(0.0005 * 2.0**i for i in range(18))
"""Upper bounds of the buckets of a forwarded request's time: 0.5 ms to a minute, in seconds."""

DIFFERENCE_BOUNDS: tuple[float, ...] = tuple(10.0**i for i in range(-8, 5))
"""Upper bounds of the buckets of the largest absolute difference between two answers."""


class RoutingCounts:
    """The families of routing; they are there where requests can be forwarded.

    Attributes:
        forwarded: requests sent to another revision, by its tag (empty where there is none of that name) and what came
            of it: `answered`, `absent`, `failed`, `late`.
        forward_seconds: from the decision to the complete answer of the other revision.
        arms: predictions that name no version, by the arm that answers them, what chose it (`user`: the user's key;
            `arrival`: the cluster's traffic block), and where that is: `here` or `there`.
        broken: states of the routes file that could not be read.
        shadowed: copies by the arm that answered, the shadow, and what came of them: `same`, `different`, `failed`
            (the shadow gave no good answer), `unreadable`, `dropped`.
        difference: the largest absolute difference between the numbers of two answers.
        top: rows of scores by whether both answers have the same highest one: `same` or `different`.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.forwarded = Counter("zeroserve_forwarded_total", ("tag", "protocol", "result"))
        self.forward_seconds = Histogram("zeroserve_forward_seconds", ("tag", "protocol"), SECONDS_BOUNDS)
        self.arms = Counter("zeroserve_arm_requests_total", ("arm", "by", "answered"))
        self.broken = Counter("zeroserve_routes_broken_total", ())
        self.shadowed = Counter("zeroserve_shadow_total", ("arm", "shadow", "result"))
        self.difference = Histogram("zeroserve_shadow_difference", ("arm", "shadow"), DIFFERENCE_BOUNDS)
        self.top = Counter("zeroserve_shadow_top_rows_total", ("arm", "shadow", "top"))
        for family in (
            self.forwarded,
            self.forward_seconds,
            self.arms,
            self.broken,
            self.shadowed,
            self.difference,
            self.top,
        ):
            metrics.add_family(family)

    def note(self, decision: Decision) -> None:
        """Counts a request whose arm was chosen."""
        if decision.why is not Why.FIXED:
            by = "user" if decision.why is Why.USER else "arrival"
            self.arms.add((decision.tag, by, "here" if decision.here else "there"))
