"""Runs a mix: which rows take which branch, each model asked once for its rows, the answers put back in order.

Steps that do not need each other run side by side. A step that no row needs is not asked at all, so that a large
model is not woken while the small one is sure. Only the steps run that the outputs asked for depend on.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import numpy as np

from loader.dtypes import Array
from loader.mixing.declaration import Mix, Step
from loader.mixing.evaluation import conditions, conform, evaluate, nothing
from loader.mixing.expression import Apply, Expression, Fact, Input, Output, Reference, references
from loader.mixing.rows import Rows, scatter
from loader.status import Code, ServingError

MAX_LATE = 256
"""Calls that go on after their step gave them up; beyond it a step with a deadline of its own is refused."""

THREAD_BYTES = 1 << 20
"""Values of this size or more are reckoned with in a thread, so that other requests are answered meanwhile."""

OUTER_BYTES = 1 << 14
"""The same where a value has more than one dimension beside the rows: two such may make one of many more elements."""

RUN, OTHERWISE, FALLBACK = "run", "otherwise", "fallback"
"""Names of branches in metrics; the second target of a step is `run_2`."""

Ask = Callable[[Mapping[str, Array], Sequence[str], float | None], Awaitable[Mapping[str, Array]]]
"""Asks one target: its inputs by name, the outputs wanted, the deadline in `time.monotonic()` seconds."""

Around = Callable[[str, int], AbstractContextManager[object]]
"""Stands around the calls of one step, for traces: the step's name and its rows."""


def no_span(step: str, rows: int) -> AbstractContextManager[object]:
    """An `Around` that does nothing."""
    return nullcontext((step, rows))


_FAULTS_OF_THE_CALLER = frozenset({Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.CANCELLED})
_T = TypeVar("_T")


class StepObserver(Protocol):
    """Is told what becomes of rows; called on the event loop's thread."""

    def rows(self, step: str, branch: str, count: int) -> None:
        """So many rows took a branch of a step."""

    def asked(self, step: str, branch: str, seconds: float, code: Code) -> None:
        """One call of a model is over: OK, or why not."""


class Mixer:
    """One mix and those who answer for its steps. Any number of event loops may use it.

    Args:
        mix: the graph.
        targets: for each step, who is asked, in the order of its targets.
        observer: is told of rows and calls.
        around: see `Around`.
    """

    def __init__(
        self,
        mix: Mix,
        targets: Mapping[str, Sequence[Ask]],
        observer: StepObserver,
        around: Around = no_span,
    ) -> None:
        self._mix = mix
        self._targets = targets
        self._observer = observer
        self._around = around
        self._late: set[asyncio.Future[Mapping[str, Array]]] = set()

    async def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float | None) -> list[Array]:
        """One array for each of `outputs`, rows in the order of the inputs.

        Raises:
            ServingError: INVALID_ARGUMENT for inputs that do not have the same rows; what a step raises that has no
                fallback, with the step's name before it; FAILED_PRECONDITION for values that do not fit the mix.
        """
        count = _count(inputs)
        if count == 0:
            return [nothing(self._mix.outputs[name]) for name in outputs]
        values: dict[Reference, Array] = {Input(name): array for name, array in inputs.items()}
        rows = Rows(count, values)
        large = sum(array.nbytes for array in inputs.values()) >= THREAD_BYTES
        batch = _Batch(rows, values, deadline, large)
        await self._steps(self._needed([self._mix.values[name] for name in outputs]), batch)
        return [
            conform(name, self._mix.outputs[name], await batch.reckon(evaluate, self._mix.values[name], rows))
            for name in outputs
        ]

    def _needed(self, expressions: Sequence[Expression]) -> list[Step]:
        """The steps that these depend on, each after those that it needs."""
        names = {
            one.step for expression in expressions for one in references(expression) if isinstance(one, Output | Fact)
        }
        for step in reversed([*self._mix.steps.values()]):
            if step.name in names:
                names.update(step.needs)
        return [step for step in self._mix.steps.values() if step.name in names]

    async def _steps(self, steps: Sequence[Step], batch: "_Batch") -> None:
        if all(before.name in step.needs for before, step in itertools.pairwise(steps)):
            for step in steps:
                await self._step(step, batch)
            return
        tasks: dict[str, asyncio.Task[None]] = {}

        async def after(step: Step) -> None:
            for need in step.needs:
                await asyncio.shield(tasks[need])
            await self._step(step, batch)

        for step in steps:
            tasks[step.name] = asyncio.create_task(after(step))
        found: list[BaseException | None] = []
        try:
            await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks.values():
                task.cancel()
            found = await asyncio.gather(*tasks.values(), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _step(self, step: Step, batch: "_Batch") -> None:
        try:
            await self._branches(step, batch)
        except ServingError as error:
            raise ServingError(
                error.code, f"step {step.name!r}: {error.message}", retry_after=error.retry_after
            ) from error

    async def _branches(self, step: Step, batch: "_Batch") -> None:
        rows, observer = batch.rows, self._observer
        chosen = np.ones(rows.count, np.bool_)
        if step.when is not None:
            chosen = await batch.reckon(conditions, step.when, rows)
        places, rest = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        parts: dict[str, list[tuple[Array, Array]]] = {name: [] for name in step.outputs}
        failed = False
        if len(places):
            running = rows.take(places)
            answer = await self._ask(step, running, batch)
            failed = answer is None
            for name in step.outputs:
                value = await batch.reckon(evaluate, step.fallback[name], running) if answer is None else answer[name]
                parts[name].append((places, value))
        if len(rest):
            observer.rows(step.name, OTHERWISE, len(rest))
            remaining = rows.take(rest)
            for name in step.outputs:
                parts[name].append((rest, await batch.reckon(evaluate, step.otherwise[name], remaining)))
        for name in step.outputs:
            batch.values[Output(step.name, name)] = scatter(rows.count, parts[name])
        batch.values[Fact("ran", step.name)] = chosen & (not failed)
        batch.values[Fact("failed", step.name)] = chosen & failed

    async def _ask(self, step: Step, rows: Rows, batch: "_Batch") -> Mapping[str, Array] | None:
        """What the first target gives that answers; None where none does and the step has a fallback."""
        inputs = {name: await batch.reckon(evaluate, expression, rows) for name, expression in step.inputs.items()}
        failure: ServingError | None = None
        with self._around(step.name, rows.count):
            for place, ask in enumerate(self._targets[step.name]):
                branch = RUN if place == 0 else f"{RUN}_{place + 1}"
                began = time.monotonic()
                code = Code.UNKNOWN
                try:
                    own = step.targets[place].deadline_seconds
                    if own is None:
                        found = await ask(inputs, step.outputs, batch.deadline)
                    else:
                        found = await self._in_time(ask, inputs, step.outputs, batch.within(began + own))
                    answer = {name: _checked(name, found, rows.count) for name in step.outputs}
                    code = Code.OK
                except ServingError as error:
                    code, failure = error.code, error
                    if code in _FAULTS_OF_THE_CALLER or batch.over:
                        raise
                except asyncio.CancelledError:
                    code = Code.CANCELLED
                    raise
                else:
                    self._observer.rows(step.name, branch, rows.count)
                    return answer
                finally:
                    self._observer.asked(step.name, branch, time.monotonic() - began, code)
        if failure is not None and step.outputs and not step.fallback:
            raise failure
        self._observer.rows(step.name, FALLBACK, rows.count)
        return None

    async def _in_time(
        self, ask: Ask, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float
    ) -> Mapping[str, Array]:
        """The answer, or DEADLINE_EXCEEDED at the deadline: a run that cannot be ended is left to itself."""
        if len(self._late) >= MAX_LATE:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"{MAX_LATE} calls are late already", retry_after=1.0)
        call = asyncio.ensure_future(ask(inputs, outputs, deadline))
        try:
            await asyncio.wait([call], timeout=max(0.0, deadline - time.monotonic()))
        finally:
            if not call.done():
                self._late.add(call)
                call.add_done_callback(self._ended)
                call.cancel()
        if call.done():
            return call.result()
        raise ServingError(Code.DEADLINE_EXCEEDED, "no answer within its deadline")

    def _ended(self, call: "asyncio.Future[Mapping[str, Array]]") -> None:
        self._late.discard(call)
        if not call.cancelled():
            call.exception()  # taken here, or the loop would report it as never retrieved


class _Batch:
    """One request's rows and its deadline."""

    def __init__(self, rows: Rows, values: dict[Reference, Array], deadline: float | None, large: bool) -> None:
        self.rows = rows
        self.values = values
        self.deadline = deadline
        self._large = large

    @property
    def over(self) -> bool:
        """Whether the request's own time is over: then no fallback helps."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def within(self, deadline: float) -> float:
        """The earlier of both deadlines."""
        return deadline if self.deadline is None else min(deadline, self.deadline)

    async def reckon(self, compute: Callable[[Expression, Rows], _T], expression: Expression, rows: Rows) -> _T:
        """The value of an expression."""
        if self._large or self._is_much(expression):
            return await asyncio.to_thread(compute, expression, rows)
        return compute(expression, rows)

    def _is_much(self, expression: Expression) -> bool:
        """Whether what the expression reads, as often as it does, is more than an event loop should wait for."""
        size, rank = 0, 0
        for one in references(expression):
            value = self.values[one]
            size, rank = size + value.nbytes, max(rank, value.ndim)
        return size >= (OUTER_BYTES if rank > 2 and isinstance(expression, Apply) else THREAD_BYTES)


def _count(inputs: Mapping[str, Array]) -> int:
    counts = {name: array.shape[0] if array.ndim else -1 for name, array in inputs.items()}
    if len(set(counts.values())) != 1 or -1 in counts.values():
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        raise ServingError(Code.INVALID_ARGUMENT, f"the inputs of a mix have the same rows each: found {shapes}")
    return next(iter(counts.values()))


def _checked(name: str, answer: Mapping[str, Array], count: int) -> Array:
    array = answer.get(name)
    if array is None:
        raise ServingError(
            Code.FAILED_PRECONDITION, f"the model gives no output {name!r}: found {', '.join(sorted(answer))}"
        )
    if array.ndim == 0 or array.shape[0] != count:
        raise ServingError(
            Code.FAILED_PRECONDITION, f"output {name!r} has shape {list(array.shape)}, wanted {count} rows"
        )
    return array
