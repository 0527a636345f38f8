"""Runs a batch so that a fault stays with its owner: a batch that fails is halved until the fault stands alone.

A model that changes variables may see the rows of good requests twice then, as it would on a client's retry.
"""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from loader import batch
from loader.batch import LengthRule, RowsError
from loader.batch_queue import Task
from loader.batching_parameters import BatchingParameters
from loader.dtypes import Array
from loader.session import Session
from loader.status import Code, ServingError

Outcome = list[Array] | ServingError

_SHORTEST_TIMEOUT = 0.001
"""Seconds; the runtime takes whole milliseconds."""

_log = logging.getLogger("zeroserve.batching")


class Run(NamedTuple):
    """One session call: rows of requests, rows with padding, when it began (`time.monotonic()`), and seconds."""

    rows: int
    padded: int
    started: float
    seconds: float


class BatchRunner:
    """Runs tasks in one session. Thread-safe.

    Args:
        session: runs the batches.
        parameters: sizes to pad to.
        rule: which dimensions are padded; None pads none.
    """

    def __init__(self, session: Session, parameters: BatchingParameters, rule: LengthRule | None) -> None:
        self._session = session
        self._parameters = parameters
        self._rule = rule

    def run(self, tasks: Sequence[Task], runs: list[Run]) -> list[Outcome]:
        """The outcome of each task, in order; raises nothing. Successful session calls are added to `runs`."""
        first, lone = tasks[0], len(tasks) == 1
        if lone and first.left:
            return [ServingError(Code.CANCELLED, "the client has left")]
        if not lone and not (self._parameters.allowed_batch_sizes or first.kind.may_share(_rows(tasks))):
            return self._halves(tasks, runs)
        try:
            if first.key is None:
                return [self._alone(first, runs)]
            return list(self._batched(tasks, runs))
        except RowsError as error:
            for task in tasks:
                task.key = None
            return [self.run([task], runs)[0] if task.whole else error for task in tasks]
        except ServingError as error:
            if lone or error.code is Code.DEADLINE_EXCEEDED:
                return [error] * len(tasks)
        except Exception:  # noqa: BLE001  # whatever fails, each request gets an answer
            # No memory for so large a batch, for one: smaller ones may do.
            if lone:
                _log.exception("a run failed for a reason of our own")
                return [ServingError(Code.INTERNAL, "internal error; the server's log says more")]
        return self._halves(tasks, runs)

    def _halves(self, tasks: Sequence[Task], runs: list[Run]) -> list[Outcome]:
        middle = len(tasks) // 2
        return self.run(tasks[:middle], runs) + self.run(tasks[middle:], runs)

    def _batched(self, tasks: Sequence[Task], runs: list[Run]) -> list[list[Array]]:
        first = tasks[0]
        started = time.monotonic()
        parts = [task.feeds for task in tasks]
        rows = _rows(tasks)
        padded = self._parameters.padded_rows(rows, low=first.low)
        feeds = batch.merge(parts, padded, self._rule)
        outputs = self._session.run(feeds, first.fetches, timeout=_timeout(tasks, started))
        runs.append(Run(rows, padded, started, time.monotonic() - started))
        # A lone request's results are its own, whatever their shape.
        unchanged = len(tasks) == 1 and padded == rows and self._rule is None and first.whole
        try:
            first.kind.look(outputs, padded)
        except RowsError:
            if not unchanged:
                raise
        return [outputs] if unchanged else batch.split(outputs, first.fetches, parts, self._rule)

    def _alone(self, task: Task, runs: list[Run]) -> list[Array]:
        started = time.monotonic()
        outputs = self._session.run(task.feeds, task.fetches, timeout=_timeout([task], started))
        runs.append(Run(task.rows, task.rows, started, time.monotonic() - started))
        return outputs


def _rows(tasks: Sequence[Task]) -> int:
    return sum(task.rows for task in tasks)


def _timeout(tasks: Sequence[Task], now: float) -> float | None:
    """Seconds until the latest deadline of the batch; None where a request has none."""
    latest = 0.0
    for task in tasks:
        if task.deadline is None:
            return None
        latest = max(latest, task.deadline)
    return max(latest - now, _SHORTEST_TIMEOUT)
