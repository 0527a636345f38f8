"""A queue with two limits between those who answer, who never wait, and a thread that does."""

import threading
import time
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Things that wait to leave. Thread-safe.

    Args:
        max_items: that may wait.
        max_bytes: that all of them may hold; one alone is taken whatever its size.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, item: Item, size: int) -> bool:
        """Takes an item of `size` bytes, or does not. Does not block."""
        with self._changed:
            full = len(self._items) >= self._max_items or (self._items and self._bytes + size > self._max_bytes)
            if self._closed or full:
                return False
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify()
            return True

    def take(self, seconds: float | None = None) -> Item | None:
        """The oldest item; None after so many seconds, or once it is closed and empty."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while not self._items:
                rest = None if deadline is None else deadline - time.monotonic()
                if self._closed or (rest is not None and rest <= 0):
                    return None
                self._changed.wait(rest)
            item, size = self._items.popleft()
            self._bytes -= size
            return item

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken in."""
        return self._closed

    def close(self) -> None:
        """Takes nothing more in; what is there can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[Item]:
        """Takes out what is left."""
        with self._changed:
            left = [item for item, _ in self._items]
            self._items.clear()
            self._bytes = 0
            return left

    def __len__(self) -> int:
        return len(self._items)
