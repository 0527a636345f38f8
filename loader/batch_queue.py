"""The requests of one servable that wait to be batched: most urgent first, bounded, cancellable.

Requests with equal keys may share a batch. The queue keeps one heap for each key and one of their heads, so finding
and taking a batch costs only as much as the batch, however many shapes wait. A cancelled request gives its memory back
at once, and its place when it is reached or swept.

Thread safety: none; the owner holds its lock around every call.
"""

import asyncio
import heapq
import itertools
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loader.batch import Feeds
from loader.batch_kind import BatchKind
from loader.dtypes import Array
from loader.inline_cost import InlineCost

if TYPE_CHECKING:
    from loader.run_log import RunObserver

SWEEP_AFTER = 64
"""Entries that nobody waits for, beyond half of those that somebody does, that cause a sweep."""


@dataclass(slots=True, eq=False)
class Task:
    """One request, or one slice of a large one.

    Attributes:
        feeds: tensor name to array; emptied when the request is cancelled in the queue.
        fetches: tensor names.
        rows: what it counts against the limits, at least 1.
        key: requests with equal keys may run as one; None runs alone.
        deadline: monotonic seconds after which nobody waits for the answer, or None.
        urgency: what the queue is ordered by: the deadline, or a moment after which waiting is no longer fair.
        since: when it arrived, in monotonic seconds.
        kind: what is known of requests for the same outputs.
        inline: what is known of runs of this one alone; None for one that never runs on the event loop.
        whole: whether it is a request and not a slice: then its results may have any shape.
        low: of low priority, in a queue apart.
        future: where its outcome goes; None when it runs on its caller.
        queued: whether it is in a queue now.
        started: whether it was taken from the queue to be run.
        observer: who is told of its run; None for nobody.
    """

    feeds: Feeds
    fetches: tuple[str, ...]
    rows: int
    key: Hashable | None
    deadline: float | None
    urgency: float
    since: float
    kind: BatchKind
    inline: InlineCost | None
    whole: bool
    low: bool = False
    future: asyncio.Future[list[Array]] | None = None
    queued: bool = False
    started: bool = False
    observer: "RunObserver | None" = None

    @property
    def left(self) -> bool:
        """Whether nobody waits for it any more; its future may be looked at from any thread."""
        return self.future is not None and self.future.done()


_Entry = tuple[float, int, Task]


class _Line:
    """The tasks of one key."""

    __slots__ = ("heap", "rows")

    def __init__(self) -> None:
        self.heap: list[_Entry] = []
        self.rows = 0


class BatchQueue:
    """Tasks in the order of their urgency."""

    def __init__(self) -> None:
        self._lines: dict[Hashable | None, _Line] = {}
        self._heads: list[tuple[float, int, Hashable | None]] = []  # the head of every line, and stale entries
        self._order = itertools.count()
        self._dead = 0
        self.tasks = 0
        """Tasks that wait."""
        self.rows = 0
        """Rows that wait."""

    def push(self, task: Task) -> None:
        """Adds a task."""
        line = self._lines.get(task.key)
        if line is None:
            line = self._lines[task.key] = _Line()
        entry = (task.urgency, next(self._order), task)
        heapq.heappush(line.heap, entry)
        if line.heap[0] is entry:
            heapq.heappush(self._heads, (*entry[:2], task.key))
        task.queued = True
        self.tasks += 1
        self.rows += task.rows
        line.rows += task.rows
        if len(self._heads) > SWEEP_AFTER + 2 * len(self._lines):
            self._sweep()

    def cancel(self, task: Task) -> None:
        """Drops a task if it is still here."""
        if not task.queued:
            return
        self._leave(task)
        task.feeds = {}
        self._dead += 1
        if self._dead > SWEEP_AFTER + self.tasks // 2:
            self._sweep()

    def head(self) -> Task | None:
        """The most urgent task."""
        while self._heads:
            urgency, order, key = self._heads[0]
            entry = self._top(key)
            if entry is not None and entry[0] == urgency and entry[1] == order:
                return entry[2]
            heapq.heappop(self._heads)
        return None

    def ready_head(self, rows: int) -> Task | None:
        """The most urgent task that needs no more company: it runs alone, or `rows` rows wait under its key."""
        found = [
            entry
            for key, line in list(self._lines.items())
            if (key is None or line.rows >= rows) and (entry := self._top(key)) is not None
        ]
        return min(found)[2] if found else None

    def rows_like(self, task: Task) -> int:
        """Rows that wait under the key of `task`."""
        line = self._lines.get(task.key)
        return 0 if line is None else line.rows

    def take(self, head: Task, limit: int) -> list[Task]:
        """Removes and returns `head`, the first of its line, and those that fit into `limit` rows with it, in order."""
        return [self._pop(head.key), *self.take_like(head, limit - head.rows)]

    def take_like(self, task: Task, room: int) -> list[Task]:
        """Removes and returns those with the key of `task` that fit into `room` rows, in order."""
        taken: list[Task] = []
        key = task.key
        entry = self._top(key)
        # The next batch starts with one that does not fit: looking for a smaller one behind it would let large
        # requests starve.
        while key is not None and entry is not None and entry[2].rows <= room:
            taken.append(self._pop(key))
            room -= taken[-1].rows
            entry = self._top(key)
        if entry is not None:
            heapq.heappush(self._heads, (*entry[:2], key))
        return taken

    def _top(self, key: Hashable | None) -> _Entry | None:
        """The first living entry of a line; what is dead before it goes, and so does an empty line."""
        line = self._lines.get(key)
        if line is None:
            return None
        heap, swept = line.heap, False
        while heap and not heap[0][2].queued:
            heapq.heappop(heap)
            self._dead -= 1
            swept = True
        if not heap:
            del self._lines[key]
            return None
        if swept:
            heapq.heappush(self._heads, (*heap[0][:2], key))
        return heap[0]

    def _pop(self, key: Hashable | None) -> Task:
        task = heapq.heappop(self._lines[key].heap)[2]
        self._leave(task)
        return task

    def _leave(self, task: Task) -> None:
        task.queued = False
        self.tasks -= 1
        self.rows -= task.rows
        self._lines[task.key].rows -= task.rows

    def _sweep(self) -> None:
        for key, line in list(self._lines.items()):
            line.heap = [entry for entry in line.heap if entry[2].queued]
            heapq.heapify(line.heap)
            if not line.heap:
                del self._lines[key]
        self._heads = [(*line.heap[0][:2], key) for key, line in self._lines.items()]
        heapq.heapify(self._heads)
        self._dead = 0
