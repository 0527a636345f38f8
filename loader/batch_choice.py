"""Which requests make the next batch of a servable, and whether it starts now or waits for company.

- Work-conserving: an idle session starts with what is queued, unless waiting is measured to pay; a busy one gets a
  second batch beside the first only where that pays, so that many small requests make few batches.
- Requests of low priority go when no other one waits; before, only as company in batches of others, see
  `BatchingParameters.mixed_priority_policy`.

Thread safety: none; the owner holds its lock around every call.
"""

from collections.abc import Sequence

from loader.batch_cost import ArrivalRate, BatchCost, waiting_pays
from loader.batch_queue import BatchQueue, Task
from loader.batching_parameters import BATCH_DOWN, FILL, FILL_PADDING, PAD_UP, BatchingParameters

BUSY_PATIENCE = 4.0
"""While a batch of the servable runs, a small one waits for its end, but not longer than so many times a batch's fixed
cost: then it starts beside it, where a thread is free."""

_SHORTEST_PAUSE = 500e-6
"""Seconds of the shortest wait for company: below it the threads would only spin."""


class BatchChoice:
    """The queues of one servable.

    Attributes:
        tasks: how many wait.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self._parameters = parameters
        self._normal = BatchQueue()
        self._low = BatchQueue()
        self._arrivals = ArrivalRate()

    @property
    def tasks(self) -> int:
        """How many wait."""
        return self._normal.tasks + self._low.tasks

    def rows(self, task: Task) -> int:
        """Rows that wait with the priority of `task`."""
        return self._queue(task).rows

    def push(self, tasks: Sequence[Task]) -> None:
        """Adds a request, whole or in slices."""
        self._arrivals.observe(sum(task.rows for task in tasks), tasks[0].since)
        queue = self._queue(tasks[0])
        for task in tasks:
            queue.push(task)

    def cancel(self, task: Task) -> None:
        """Drops a task if it is still here."""
        self._queue(task).cancel(task)

    def worth_a_thread(self, task: Task) -> bool:
        """Whether what waits like `task` is worth a batch beside those that run."""
        return self._is_full(task) or task.kind.cost.pays(self._queue(task).rows_like(task))

    def take(self, now: float, running: int) -> tuple[list[Task], float | None]:
        """The next batch, not empty, or how many seconds to wait before asking again; None: until a push.

        Args:
            now: monotonic seconds.
            running: how many batches of the servable run.
        """
        head = self._normal.head()
        if head is not None:
            pause = self._pause(head, now, running)
            if pause > 0.0:
                head = self._normal.ready_head(self._parameters.batch_rows)
            if head is None:
                return [], pause
            return self._take(head), None
        head = self._low.head()
        if head is None:
            return [], None
        pause = self._low_pause(head, now, running)
        return ([], pause) if pause > 0.0 else (self._low.take(head, self._limit(head)), None)

    def _queue(self, task: Task) -> BatchQueue:
        return self._low if task.low else self._normal

    def _take(self, head: Task) -> list[Task]:
        parameters = self._parameters
        tasks = self._normal.take(head, self._limit(head))
        if self._low.tasks and head.kind.rows_seen:
            policy = parameters.mixed_priority_policy
            rows = sum(task.rows for task in tasks)
            most = {FILL: parameters.batch_rows, FILL_PADDING: parameters.padded_rows(rows)}.get(policy, rows)
            tasks += self._low.take_like(head, most - rows)
        return tasks

    def _limit(self, head: Task) -> int:
        """Rows of the batch that begins with `head`."""
        # The first of its kind runs alone: see `loader.batch_kind`.
        if not head.kind.rows_seen:
            return head.rows
        parameters = self._parameters
        sizes, limit = parameters.allowed_batch_sizes, parameters.batch_rows
        if head.low:
            sizes, limit = parameters.low_priority_allowed_batch_sizes, parameters.low_priority_max_batch_size
        if not sizes or parameters.batch_padding_policy == PAD_UP:
            return limit
        rows = min(limit, self._queue(head).rows_like(head))
        down = max((size for size in sizes if size <= rows), default=0)
        if down < head.rows or down == rows:
            return limit
        up = parameters.padded_rows(rows, low=head.low)
        if parameters.batch_padding_policy == BATCH_DOWN or cheaper_down(head.kind.cost, down, rows, up):
            return down  # the rest makes the next batch
        return limit

    def _pause(self, head: Task, now: float, running: int) -> float:
        """Seconds to wait for company, 0 to start now."""
        if self._is_full(head):
            return 0.0
        rows, cost = self._normal.rows_like(head), head.kind.cost
        if running and not cost.pays(rows):
            # The session is busy: to join the next batch costs less than one more beside it. Not for ever, though.
            return max(0.0, head.since + BUSY_PATIENCE * cost.fixed - now)
        left = head.since + self._parameters.batch_timeout_micros * 1e-6 - now
        if left <= 0.0 or not waiting_pays(rows, cost, self._arrivals.at(now)):
            return 0.0
        # Looked at again before the end of the wait: arrivals may cease, and then it no longer pays.
        return min(left, max(cost.fixed, _SHORTEST_PAUSE))

    def _low_pause(self, head: Task, now: float, running: int) -> float:
        if self._is_full(head):
            return 0.0
        cost = head.kind.cost
        patience = BUSY_PATIENCE * cost.fixed if running and not cost.pays(self._low.rows_like(head)) else 0.0
        wait = max(self._parameters.low_priority_batch_timeout_micros * 1e-6, patience)
        return max(0.0, head.since + wait - now)

    def _is_full(self, task: Task) -> bool:
        """Whether more tasks like this one would not join it."""
        limit = self._parameters.low_priority_max_batch_size if task.low else self._parameters.batch_rows
        return task.key is None or not task.kind.rows_seen or self._queue(task).rows_like(task) >= limit


def cheaper_down(cost: BatchCost, down: int, rows: int, up: int) -> bool:
    """Whether a full batch of `down` rows costs less for each of them than `rows` padded to `up`."""
    return cost.estimate(down) * rows < cost.estimate(up) * down
