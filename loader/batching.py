"""In-function batching: concurrent requests to one servable become one session call.

What is better than the stock scheduler, and where:
- work-conserving, and with priorities: `loader.batch_choice`;
- a fault stays with its owner: a failed batch is halved until the bad request stands alone (`loader.batch_run`);
- deadlines: the earliest first; what is too late, or can no longer be in time, is refused at once
  (`loader.batch_admission`), and nobody waits longer than its own deadline (`_expire`);
- a call that cannot be batched (no common rows, outputs without rows, no rows at all) runs alone, not never;
- a run that takes less than a hand-over stays on its caller (`_runs_inline`).

Source: tensorflow/core/kernels/batching_util/shared_batch_scheduler.h, tensorflow_serving/batching/batching_session.cc.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from loader import batch
from loader.batch import Feeds, LengthRule
from loader.batch_admission import TOO_LATE, BatchAdmission
from loader.batch_choice import BatchChoice
from loader.batch_delivery import deliver
from loader.batch_device import BatchDevice
from loader.batch_intake import BatchIntake
from loader.batch_queue import Task
from loader.batch_run import BatchRunner, Run
from loader.batching_parameters import BatchingParameters
from loader.crowd import Crowd
from loader.dtypes import Array
from loader.inline_cost import InlineCost, InlineCosts
from loader.priority import low_priority
from loader.run_observer import run_observer
from loader.session import Session
from loader.status import Code, ServingError

HAND_OVER_SECONDS = 60e-6
"""CPU time of the way through the queue, a thread and back; a shorter run is not worth it, however many ask."""

CROWD_PROBE = 64
"""While requests come together and go to the threads, every so many one runs on the event loop: is it short by now?"""


class BatchObserver(Protocol):
    """Is told what the batcher does, on the threads that do it: it must be quick and thread-safe."""

    def waited(self, seconds: Sequence[float]) -> None:
        """Requests came from the queue to run; how long each had waited."""

    def ran(self, rows: int, padded: int, seconds: float) -> None:
        """A batch of `rows` rows ran as `padded` rows in `seconds`."""

    def rejected(self, code: Code) -> None:
        """A request was refused before it ran."""


class BatchScheduler:
    """Batches the requests to one servable; a `loader.scheduler.Scheduler`.

    Args:
        session: runs the batches.
        device: the threads that run them, shared with other servables.
        parameters: sizes and limits.
        rule: which dimensions are lengths; used where `pad_variable_length_inputs` is set.
        fixed_rows: names of tensors whose 0th dimension is no batch dimension by the signature; a call that touches
            one runs alone.
        weight: share of the device beside other servables.
        observer: is told of batches and refusals.

    Thread safety: `run` from any number of event loops; `close` from any thread, when nobody calls `run` any more.
    """

    def __init__(
        self,
        session: Session,
        device: BatchDevice,
        parameters: BatchingParameters,
        *,
        rule: LengthRule | None = None,
        fixed_rows: frozenset[str] = frozenset(),
        weight: float = 1.0,
        observer: BatchObserver | None = None,
    ) -> None:
        self._session = session
        self._device = device
        self._parameters = parameters
        shared_rule = (rule or LengthRule()) if parameters.pad_variable_length_inputs else None
        self._runner = BatchRunner(session, parameters, shared_rule)
        # A graph that may wait for something would stop the event loop, however short its other runs were.
        may_block = bool(getattr(session, "may_block", False))
        self._inline_costs = None if may_block else InlineCosts()
        self._as_it_is = not parameters.allowed_batch_sizes and shared_rule is None
        self._intake = BatchIntake(parameters, shared_rule, fixed_rows)
        self._observer = observer
        self._admission = BatchAdmission(parameters, device.size, self._rejected)
        self._queues = BatchChoice(parameters)
        self._heeds_priority = parameters.low_priority_max_batch_size > 0
        self._running = 0
        self._finished = threading.Condition(device.lock)
        self._crowd = Crowd()
        self._until_probe = CROWD_PROBE
        self.served = 0.0
        self.weight = weight
        device.join(self)

    async def run(self, feeds: Feeds, fetches: Sequence[str], *, deadline: float | None = None) -> list[Array]:
        """Runs one request, alone or with others.

        Args:
            feeds: tensor name to array; arrays that share their 0th dimension are batched.
            fetches: tensor names.
            deadline: monotonic seconds after which nobody waits for the answer.

        Returns:
            One array for each fetch, with as many rows as the request. They may be views of a batch's results.

        Raises:
            ServingError: INVALID_ARGUMENT for more rows than a batch takes; RESOURCE_EXHAUSTED when the queue is full,
                or the deadline passed in it or cannot be met; DEADLINE_EXCEEDED when it passed during the run; else
                what the session raises for this very request.
        """
        now = time.monotonic()
        if deadline is not None and deadline <= now:
            raise self._admission.refusal(TOO_LATE)
        names = tuple(fetches)
        rows = batch.rows_of(feeds)
        cost = self._inline_costs.of(feeds, names) if self._inline_costs is not None else None
        if cost is not None and (rows or 0) <= self._parameters.batch_rows and self._runs_inline(cost):
            return self._run_inline(feeds, names, rows, cost=cost, deadline=deadline, now=now)
        low = self._heeds_priority and low_priority.get()
        return await self._wait(
            self._intake.tasks(feeds, names, rows, inline=cost, deadline=deadline, now=now, low=low)
        )

    def close(self) -> None:
        """Leaves the device, once the runs have ended whose callers have left."""
        with self._device.lock:
            while self._running:
                self._finished.wait()
            self._device.leave(self)

    # On the caller's event loop.

    def _runs_inline(self, cost: InlineCost) -> bool:
        if not cost.inline():
            return False
        if cost.cpu_seconds < HAND_OVER_SECONDS:
            return True
        # Read without the lock: at worst one request more waits for a run that is short by definition.
        if not self._crowd.joined() and not self._queues.tasks:
            return True
        self._until_probe = (self._until_probe or CROWD_PROBE) - 1
        return self._until_probe == 0

    def _run_inline(
        self,
        feeds: Feeds,
        fetches: tuple[str, ...],
        rows: int | None,
        *,
        cost: InlineCost,
        deadline: float | None,
        now: float,
    ) -> list[Array]:
        runs: list[Run] = []
        observer = run_observer.get()
        begun = time.thread_time()
        try:
            if self._as_it_is:
                outputs = self._session.run(feeds, fetches, timeout=None if deadline is None else deadline - now)
                seconds = time.monotonic() - now
                runs.append(Run(rows or 1, rows or 1, now, seconds))
            else:
                (task,) = self._intake.tasks(feeds, fetches, rows, inline=cost, deadline=deadline, now=now)
                outcome = self._runner.run([task], runs)[0]
                if isinstance(outcome, ServingError):
                    raise outcome
                outputs, seconds = outcome, time.monotonic() - now
        finally:
            if observer is not None:
                from loader.run_log import Ran  # noqa: PLC0415  see loader.run_observer

                observer.ran(Ran(now, now, time.monotonic()))
        cost.observe(seconds, time.thread_time() - begun)
        self._note((), runs)
        return outputs

    async def _wait(self, tasks: list[Task]) -> list[Array]:
        loop = asyncio.get_running_loop()
        observer = run_observer.get()
        futures = []
        for task in tasks:
            task.observer = observer
            task.future = loop.create_future()
            futures.append(task.future)
        with self._device.lock:
            if not self._device.open:
                raise ServingError(Code.UNAVAILABLE, "the server is shutting down; ask another one")
            self._admission.check(tasks, self._queues.rows(tasks[0]))
            first_in_line = not self._queues.tasks
            if first_in_line and not self._running:
                self._device.level(self)
            self._queues.push(tasks)
            # Who comes first wakes a thread, which starts or sleeps until waiting has been long enough. Who joins wakes
            # one only if that makes a difference: waking costs as much as anything else on the way of a request.
            if first_in_line or not self._running or self._queues.worth_a_thread(tasks[-1]):
                self._device.wake(len(tasks))
        deadline = tasks[0].deadline
        timer = None if deadline is None else loop.call_later(deadline - tasks[0].since, self._expire, tasks)
        try:
            if len(futures) == 1:
                return await futures[0]
            return batch.join(await asyncio.gather(*futures))
        finally:
            if timer is not None:
                timer.cancel()
            # Where the client left or a slice failed, nobody wants the rest; after a normal end this does nothing.
            # What runs already runs on: `close` waits for it.
            if any(task.queued for task in tasks):
                with self._device.lock:
                    for task in tasks:
                        self._queues.cancel(task)

    def _expire(self, tasks: list[Task]) -> None:
        """The deadline has passed: answers now, whatever the queue or the run still do."""
        with self._device.lock:
            for task in tasks:
                self._queues.cancel(task)
            started = any(task.started for task in tasks)
        error = (
            ServingError(Code.DEADLINE_EXCEEDED, "the deadline passed while the model was running")
            if started
            else self._admission.refusal(TOO_LATE)
        )
        for task in tasks:
            if task.future is not None and not task.future.done():
                task.future.set_exception(error)

    # On the device's threads.

    def take(self, now: float) -> tuple[Sequence[Task], float | None]:
        """The next batch, or how many seconds to wait for company; the lock is held. See `BatchOwner`."""
        while True:
            taken, pause = self._queues.take(now, self._running)
            if not taken:
                return (), pause
            # Who is too late or has left is about to be told by its own event loop.
            tasks = [task for task in taken if not task.left and (task.deadline is None or task.deadline > now)]
            if tasks:
                for task in tasks:
                    task.started = True
                self._running += 1
                return tasks, None

    def run_batch(self, tasks: Sequence[Task]) -> None:
        """Runs a batch and delivers every outcome. See `BatchOwner`."""
        runs: list[Run] = []
        started = time.monotonic()
        try:
            outcomes = self._runner.run(tasks, runs)
            try:
                _tell_observers(tasks, runs, started)
            finally:
                deliver(tasks, outcomes)
            if len(tasks) == 1 and tasks[0].inline is not None:
                tasks[0].inline.observe(time.monotonic() - started)
        finally:
            with self._device.lock:
                for run in runs:
                    tasks[0].kind.cost.observe(run.padded, run.seconds)
                self._running -= 1
                self._finished.notify_all()
        self._note([started - task.since for task in tasks], runs)

    def _rejected(self, code: Code) -> None:
        if self._observer is not None:
            self._observer.rejected(code)

    def _note(self, waited: Sequence[float], runs: list[Run]) -> None:
        if self._observer is not None:
            if waited:
                self._observer.waited(waited)
            for run in runs:
                self._observer.ran(run.rows, run.padded, run.seconds)


def _tell_observers(tasks: Sequence[Task], runs: Sequence[Run], started: float) -> None:
    """Tells those who asked of a batch that is over; before its outcomes are delivered."""
    observers = [task.observer for task in tasks if task.observer is not None]
    if not observers:
        return
    from loader.run_log import Batch, Ran  # noqa: PLC0415  see loader.run_observer

    ended = time.monotonic()
    rows, padded = sum(task.rows for task in tasks), sum(run.padded for run in runs)
    shared = Batch(rows, padded, len(tasks), observers, [(run.started, run.seconds) for run in runs])
    for task in tasks:
        if task.observer is not None:
            task.observer.ran(Ran(task.since, started, ended, shared))
