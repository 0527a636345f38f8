"""What a queue takes in: not more than it may hold, and nothing that cannot be in time. Refusals come at once."""

from collections.abc import Callable

from loader.batch_queue import Task
from loader.batching_parameters import BatchingParameters
from loader.status import Code, ServingError

TOO_LATE = "Run() timeout exceeded while waiting in batching queue"


class BatchAdmission:
    """Refuses for one servable.

    Args:
        parameters: the limits.
        threads: how many batches run at once.
        rejected: is told the code of each refusal; quick and thread-safe.
    """

    def __init__(self, parameters: BatchingParameters, threads: int, rejected: Callable[[Code], None]) -> None:
        self._parameters = parameters
        self._threads = threads
        self._rejected = rejected

    def check(self, tasks: list[Task], waiting: int) -> None:
        """Checks a request, whole or in slices, against `waiting` rows of its priority that are queued already.

        Raises:
            ServingError: RESOURCE_EXHAUSTED with the time after which to try again.
        """
        first, rows = tasks[0], sum(task.rows for task in tasks)
        # A request larger than the whole queue may enter an empty one, or it could never be served.
        parameters = self._parameters
        room, size = parameters.queue_rows, parameters.max_batch_size
        if first.low:
            room, size = parameters.low_queue_rows, parameters.low_priority_max_batch_size
        if waiting and waiting + rows > room:
            raise self.refusal(
                "The batch scheduling queue to which this task was submitted is full; currently"
                f" {-(-waiting // size)} batches enqueued and max_enqueued_batches is {room // size}",
                self._seconds_for(first, waiting),
            )
        if first.deadline is not None and waiting and first.kind.cost.known:
            left = first.deadline - first.since
            needed = self._seconds_for(first, waiting + rows)
            if needed > left:
                raise self.refusal(
                    f"the queue needs about {needed * 1000:.0f} ms and the request's deadline is in"
                    f" {left * 1000:.0f} ms; allow more time, retry later, or add capacity",
                    needed,
                )

    def refusal(self, text: str, retry_after: float = 0.0) -> ServingError:
        """RESOURCE_EXHAUSTED, counted; `retry_after` in seconds."""
        self._rejected(Code.RESOURCE_EXHAUSTED)
        return ServingError(Code.RESOURCE_EXHAUSTED, text, retry_after=retry_after)

    def _seconds_for(self, task: Task, rows: int) -> float:
        """How long the threads need for `rows` rows like the task's."""
        full = 1 if task.key is None else self._parameters.batch_rows
        rounds = -(-rows // (full * self._threads))
        return rounds * task.kind.cost.estimate(min(rows, full))
