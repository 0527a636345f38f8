"""How many bytes of request bodies one process holds at once.

Each request has its own limit, and many clients that each stay just below it would still fill the memory. What comes
in one piece is not counted: it is small, and most requests are like that.
"""

from loader.status import Code, ServingError

RETRY_SECONDS = 1.0
"""When a refused client may try again."""

PIECE_BYTES = 64
"""What each piece costs beside its content: bodies that come byte by byte cost more than they weigh."""


class BodyBudget:
    """The bytes that all requests hold together. Used on the event loop's thread only.

    Attributes:
        limit: bytes; a request that is alone may hold more.
        held: bytes held now.
    """

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class BodyHold:
    """The bytes that one request holds."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int, *, inflated: bool = False) -> None:
        """One more piece of `size` bytes.

        Args:
            inflated: nobody sent these bytes; then even a request that is alone keeps to the limit.

        Raises:
            ServingError: UNAVAILABLE when all requests together would hold more than the limit.
        """
        budget = self._budget
        size += PIECE_BYTES
        if budget.held + size > budget.limit and (inflated or budget.held > self._size):
            raise ServingError(
                Code.UNAVAILABLE,
                f"requests hold {budget.held} bytes, {budget.limit} are allowed (--max_pending_request_bytes)",
                retry_after=RETRY_SECONDS,
            )
        budget.held += size
        self._size += size

    def release(self) -> None:
        """Gives everything back."""
        self._budget.held -= self._size
        self._size = 0
