"""What routing counts. Thread safety: as `functions/metrics.py`."""

from functions.metrics import Counter, Histogram, Metrics

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
        users: requests with a user's key by the arm of the user, and where they were answered: `here` or `there`.
        broken: states of the routes file that could not be read.
        shadowed: copies by the arm that answered, the shadow, and what came of them: `same`, `different`, `failed`
            (the shadow gave no good answer), `unreadable`, `dropped`.
        difference: the largest absolute difference between the numbers of two answers.
        top: rows of scores by whether both answers have the same highest one: `same` or `different`.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.forwarded = Counter("zeroserve_forwarded_total", ("tag", "protocol", "result"))
        self.forward_seconds = Histogram("zeroserve_forward_seconds", ("tag", "protocol"), SECONDS_BOUNDS)
        self.users = Counter("zeroserve_user_requests_total", ("arm", "answered"))
        self.broken = Counter("zeroserve_routes_broken_total", ())
        self.shadowed = Counter("zeroserve_shadow_total", ("arm", "shadow", "result"))
        self.difference = Histogram("zeroserve_shadow_difference", ("arm", "shadow"), DIFFERENCE_BOUNDS)
        self.top = Counter("zeroserve_shadow_top_rows_total", ("arm", "shadow", "top"))
        for family in (
            self.forwarded,
            self.forward_seconds,
            self.users,
            self.broken,
            self.shadowed,
            self.difference,
            self.top,
        ):
            metrics.add_family(family)
