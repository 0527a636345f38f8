"""Batched results are the unbatched ones, whoever shares the batch and whatever goes wrong in it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.batch import LengthRule
from loader.batch_device import BatchDevice
from loader.batching import BatchScheduler
from loader.batching_parameters import BatchingParameters
from loader.dtypes import Array
from loader.status import Code, ServingError
from loader.tensor import ALIGNMENT


class Doubler:
    """A session that computes `y = 2 * x` and refuses rows of 13; it can be held to let a queue form."""

    may_block = True  # it is never run on the event loop

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        x = feeds["x"]
        self.batches.append(x.shape[0] if x.ndim else -1)
        self.entered.release()
        assert self.gate.wait(20)
        if x.dtype != object and (x == 13).any():
            raise ServingError(Code.INVALID_ARGUMENT, "13 is refused")
        known: dict[str, Callable[[], Array]] = {
            "y": lambda: x + x,
            "total": lambda: np.asarray(x.sum()),
            "long": lambda: np.repeat(x, 2, axis=0),
        }
        return [known[name]() for name in fetches]

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def device() -> Iterator[BatchDevice]:
    made = BatchDevice(1)
    yield made
    made.close(20)


def scheduler(session: Doubler, device: BatchDevice, **given: object) -> BatchScheduler:
    rule = given.pop("rule", None)
    fixed = given.pop("fixed_rows", frozenset())
    return BatchScheduler(session, device, BatchingParameters(**given), rule=rule, fixed_rows=fixed)  # type: ignore[arg-type]


async def held(session: Doubler, batcher: BatchScheduler) -> "asyncio.Task[list[Array]]":
    """One request that occupies the device until the session's gate is opened."""
    session.gate.clear()
    running = asyncio.create_task(batcher.run({"x": np.zeros(1)}, ["y"]))
    assert await asyncio.to_thread(session.entered.acquire, timeout=20)
    return running


async def queued(
    batcher: BatchScheduler, inputs: Sequence[Array], **kwargs: float
) -> "list[asyncio.Task[list[Array]]]":
    tasks = [asyncio.create_task(batcher.run({"x": x}, ["y"], **kwargs)) for x in inputs]
    await asyncio.sleep(0)  # each task runs until it waits in the queue
    return tasks


def test_requests_that_wait_for_a_busy_device_share_one_run(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.array([float(n), n + 0.5]) for n in range(1, 9)])
        session.gate.set()
        for n, result in enumerate(await asyncio.gather(*waiting), start=1):
            np.testing.assert_array_equal(result[0], [2.0 * n, 2.0 * n + 1])
        await first
        assert session.batches == [1, 16]

    asyncio.run(main())


def test_a_lone_request_starts_at_once_even_with_a_long_batch_timeout(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device, batch_timeout_micros=60_000_000)
        async with asyncio.timeout(20):
            for _ in range(20):
                await batcher.run({"x": np.ones(1)}, ["y"])
        assert session.batches == [1] * 20

    asyncio.run(main())


def test_one_bad_request_in_a_batch_fails_alone(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.array([13.0 if n == 5 else 100.0 + n]) for n in range(1, 17)])
        session.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await first
        for n, result in enumerate(results, start=1):
            if n == 5:
                assert isinstance(result, ServingError)
                assert result.message == "13 is refused"
            else:
                assert isinstance(result, list)
                np.testing.assert_array_equal(result[0], [200.0 + 2 * n])

    asyncio.run(main())


def test_requests_of_different_shapes_never_share_a_batch(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.ones((1, 1 + n % 2)) for n in range(6)])
        session.gate.set()
        results = await asyncio.gather(*waiting)
        await first
        assert [result[0].shape for result in results] == [(1, 1), (1, 2)] * 3
        assert sorted(session.batches) == [1, 3, 3]

    asyncio.run(main())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device, max_batch_size=2, max_enqueued_batches=2)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.ones(1)] * 4)
        with pytest.raises(ServingError, match="max_enqueued_batches is 2") as refused:
            await batcher.run({"x": np.ones(1)}, ["y"])
        assert refused.value.code is Code.RESOURCE_EXHAUSTED
        assert refused.value.retry_after is not None
        session.gate.set()
        await asyncio.gather(first, *waiting)

    asyncio.run(main())


def test_a_request_whose_deadline_passes_in_the_queue_is_not_run(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        deadline = time.monotonic() + 0.05
        late = await queued(batcher, [np.full(3, 7.0)], deadline=deadline)
        in_time = await queued(batcher, [np.ones(1)])
        await asyncio.sleep(deadline - time.monotonic())
        session.gate.set()
        with pytest.raises(ServingError, match="timeout exceeded while waiting") as refused:
            await late[0]
        assert refused.value.code is Code.RESOURCE_EXHAUSTED
        await asyncio.gather(first, *in_time)
        assert session.batches == [1, 1]

    asyncio.run(main())


def test_the_earliest_deadline_runs_first(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device, max_batch_size=1)
        first = await held(session, batcher)
        order: list[str] = []
        now = time.monotonic()

        async def ask(name: str, seconds: float) -> None:
            await batcher.run({"x": np.ones(1)}, ["y"], deadline=now + seconds)
            order.append(name)

        waiting = [asyncio.create_task(ask(name, seconds)) for name, seconds in (("c", 30), ("a", 10), ("b", 20))]
        await asyncio.sleep(0)
        session.gate.set()
        await asyncio.gather(first, *waiting)
        assert order == ["a", "b", "c"]

    asyncio.run(main())


def test_a_client_that_left_is_not_run_and_frees_its_place(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device, max_batch_size=4, max_enqueued_batches=1)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.ones(1)] * 4)
        for task in waiting[:3]:
            task.cancel()
        await asyncio.gather(*waiting[:3], return_exceptions=True)
        more = await queued(batcher, [np.ones(1)] * 3)
        session.gate.set()
        await asyncio.gather(first, waiting[3], *more)
        assert sum(session.batches) == 1 + 4

    asyncio.run(main())


def test_a_request_larger_than_a_batch_is_refused_with_the_stock_text(device: BatchDevice) -> None:
    batcher = scheduler(Doubler(), device, max_batch_size=4)
    with pytest.raises(ServingError, match="Task size 5 is larger than maximum input batch size 4"):
        asyncio.run(batcher.run({"x": np.ones(5)}, ["y"]))


def test_a_large_request_is_split_and_joined_in_order(device: BatchDevice) -> None:
    session = Doubler()
    batcher = scheduler(
        session, device, max_batch_size=20, enable_large_batch_splitting=True, max_execution_batch_size=3
    )
    result = asyncio.run(batcher.run({"x": np.arange(100.0, 120.0)}, ["y"]))
    np.testing.assert_array_equal(result[0], 2 * np.arange(100.0, 120.0))
    assert max(session.batches) <= 3


def test_no_rows_are_answered_with_no_rows(device: BatchDevice) -> None:
    result = asyncio.run(scheduler(Doubler(), device).run({"x": np.zeros((0, 3))}, ["y"]))
    assert result[0].shape == (0, 3)


def test_a_scalar_input_runs_alone(device: BatchDevice) -> None:
    result = asyncio.run(scheduler(Doubler(), device).run({"x": np.asarray(3.0)}, ["y"]))
    assert result[0] == 6.0


def test_an_output_without_rows_is_never_shared(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device, fixed_rows=frozenset({"total"}))
        first = await held(session, batcher)
        asked = [asyncio.create_task(batcher.run({"x": np.full(2, float(n))}, ["total"])) for n in range(3)]
        await asyncio.sleep(0)
        session.gate.set()
        results = await asyncio.gather(*asked)
        await first
        assert [float(result[0]) for result in results] == [0.0, 2.0, 4.0]

    asyncio.run(main())


def test_outputs_that_do_not_follow_the_rows_are_found_out_and_run_alone(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        asked = [asyncio.create_task(batcher.run({"x": np.full(2, float(n))}, ["long"])) for n in range(3)]
        await asyncio.sleep(0)
        session.gate.set()
        results = await asyncio.gather(*asked)
        await first
        assert [result[0].tolist() for result in results] == [[n] * 4 for n in (0.0, 1.0, 2.0)]

    asyncio.run(main())


def test_batches_are_padded_to_an_allowed_size_and_cut_back(device: BatchDevice) -> None:
    session = Doubler()
    batcher = scheduler(session, device, max_batch_size=8, allowed_batch_sizes=(2, 8))
    result = asyncio.run(batcher.run({"x": np.arange(3.0)}, ["y"]))
    np.testing.assert_array_equal(result[0], [0.0, 2.0, 4.0])
    assert session.batches == [8]


def test_variable_lengths_are_padded_to_a_bucket_and_cut_back_to_each_requests_own(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        rule = LengthRule({"x": {1: "length"}, "y": {1: "length"}}, {"length": (4, 16)})
        batcher = scheduler(session, device, pad_variable_length_inputs=True, rule=rule)
        first = await held(session, batcher)
        await asyncio.sleep(0)
        inputs = [np.arange(1.0, n + 1.0).reshape(1, n) for n in (3, 5, 1)]
        waiting = await queued(batcher, inputs)
        session.gate.set()
        results = await asyncio.gather(*waiting)
        await first
        for x, result in zip(inputs, results, strict=True):
            np.testing.assert_array_equal(result[0], 2 * x)
        assert session.batches == [1, 3]

    asyncio.run(main())


def test_two_servables_share_the_device_by_their_weights(device: BatchDevice) -> None:
    async def main() -> None:
        session, order = Doubler(), list[str]()
        light = BatchScheduler(session, device, BatchingParameters(max_batch_size=1), weight=1.0)
        heavy = BatchScheduler(session, device, BatchingParameters(max_batch_size=1), weight=1.0)
        first = await held(session, light)

        async def ask(name: str, batcher: BatchScheduler) -> None:
            await batcher.run({"x": np.ones(1)}, ["y"])
            order.append(name)

        flood = [asyncio.create_task(ask("flood", light)) for _ in range(10)]
        await asyncio.sleep(0)
        late = asyncio.create_task(ask("late", heavy))
        await asyncio.sleep(0)
        session.gate.set()
        await asyncio.gather(first, *flood, late)
        assert order.index("late") <= 1, order

    asyncio.run(main())


request = st.tuples(
    st.integers(0, 5),
    st.sampled_from(["f4", "f8", "i4", "object"]),
    st.booleans(),
    st.sampled_from(["run", "bad", "cancel"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(request, max_size=24), st.sampled_from([1, 3, 8]), st.booleans(), st.integers(1, 3), st.booleans())
def test_nobody_gets_anothers_rows_whatever_is_mixed(
    requests: list[tuple[int, str, bool, str]], size: int, allowed: bool, threads: int, inline: bool
) -> None:
    """Each request carries its own marker in every row; sizes, dtypes, faults and cancellations are mixed at will."""

    async def main() -> None:
        session, own = Doubler(), BatchDevice(threads)
        session.may_block = not inline
        batcher = scheduler(
            session,
            own,
            max_batch_size=8,
            allowed_batch_sizes=(3, 8) if allowed else (),
            enable_large_batch_splitting=True,
            max_execution_batch_size=size,
            max_enqueued_batches=50,
        )

        def made(index: int, rows: int, dtype: str, wide: bool, fate: str) -> Array:
            shape = (rows, 2) if wide else (rows,)
            if dtype == "object":
                return np.full(shape, b"%d;" % index, dtype=object)
            return np.full(shape, 13 if fate == "bad" else 100 + index, dtype=dtype)

        inputs = [made(index, *each) for index, each in enumerate(requests)]
        tasks = await queued(batcher, inputs)
        for task, (*_, fate) in zip(tasks, requests, strict=True):
            if fate == "cancel":
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for x, result, (rows, dtype, _, fate) in zip(inputs, results, requests, strict=True):
            if fate == "cancel":
                assert isinstance(result, asyncio.CancelledError | list)
            elif fate == "bad" and dtype != "object" and rows:
                assert isinstance(result, ServingError)
            else:
                assert isinstance(result, list), result
                assert result[0].dtype == x.dtype
                np.testing.assert_array_equal(result[0], x + x)
        assert batcher._queues.tasks == 0
        await asyncio.to_thread(own.close, 20)

    asyncio.run(main())


def test_a_version_is_closed_only_after_the_run_of_a_caller_that_has_left(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        assert not closing.done()
        session.gate.set()
        await asyncio.wait_for(closing, 20)

    asyncio.run(main())


def test_a_request_is_answered_at_its_deadline_while_it_waits_and_while_it_runs(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        session.gate.clear()
        now = time.monotonic()
        running = asyncio.create_task(batcher.run({"x": np.zeros(1)}, ["y"], deadline=now + 0.05))
        assert await asyncio.to_thread(session.entered.acquire, timeout=20)
        (waiting,) = await queued(batcher, [np.ones(1)], deadline=now + 0.06)
        codes = {}
        for name, task in (("running", running), ("waiting", waiting)):
            with pytest.raises(ServingError) as refused:
                await asyncio.wait_for(task, 20)
            codes[name] = refused.value.code
        assert codes == {"running": Code.DEADLINE_EXCEEDED, "waiting": Code.RESOURCE_EXHAUSTED}
        assert not session.gate.is_set()
        session.gate.set()

    asyncio.run(main())


def test_a_passed_deadline_is_refused_before_anything_runs(device: BatchDevice) -> None:
    session = Doubler()
    with pytest.raises(ServingError, match="timeout exceeded") as refused:
        asyncio.run(scheduler(session, device).run({"x": np.ones(1)}, ["y"], deadline=time.monotonic() - 1))
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert session.batches == []


class Narrow(Doubler):
    """Has no memory for more than two rows, and fails with a defect for rows of 99."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        if feeds["x"].shape[0] > 2:
            raise MemoryError
        if (feeds["x"] == 99).any():
            raise ZeroDivisionError
        return super().run(feeds, fetches, timeout=timeout)


def test_a_batch_too_large_for_memory_runs_in_parts_and_a_defect_stays_with_its_request(device: BatchDevice) -> None:
    async def main() -> None:
        session = Narrow()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.array([float(n)]) for n in (1, 2, 99, 4, 5)])
        session.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await first
        failed = results.pop(2)
        assert isinstance(failed, ServingError)
        assert (failed.code, "ZeroDivision" in failed.message) == (Code.INTERNAL, False)
        assert [result[0].tolist() for result in results if isinstance(result, list)] == [[2.0], [4.0], [8.0], [10.0]]

    asyncio.run(main())


class Constant(Doubler):
    """Returns four rows whatever it is asked."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        super().run(feeds, ["y"], timeout=timeout)
        return [np.arange(4.0) for _ in fetches]


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_constant_output_is_not_taken_for_rows_though_it_has_as_many_as_the_batch(
    device: BatchDevice, rows: int
) -> None:
    async def main() -> None:
        session = Constant()
        batcher = scheduler(session, device)
        first = await batcher.run({"x": np.zeros(rows)}, ["y"])
        assert session.entered.acquire(timeout=20)
        holding = await held(session, batcher)
        waiting = await queued(batcher, [np.ones(4 // rows)] * rows)
        session.gate.set()
        for result in [first, await holding, *await asyncio.gather(*waiting)]:
            np.testing.assert_array_equal(result[0], np.arange(4.0))

    asyncio.run(main())


def test_after_one_failure_to_tell_rows_apart_requests_of_that_kind_run_alone(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device)
        await batcher.run({"x": np.ones(2)}, ["long"])
        assert session.entered.acquire(timeout=20)
        first = await held(session, batcher)
        asked = [asyncio.create_task(batcher.run({"x": np.full(2, float(n))}, ["long"])) for n in range(3)]
        await asyncio.sleep(0)
        session.gate.set()
        await asyncio.gather(first, *asked)
        assert session.batches == [2, 1, 2, 2, 2]

    asyncio.run(main())


def test_slices_whose_outputs_do_not_follow_the_rows_are_refused(device: BatchDevice) -> None:
    batcher = scheduler(
        Doubler(), device, max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=2
    )
    with pytest.raises(ServingError, match="0 dimensions") as refused:
        asyncio.run(batcher.run({"x": np.ones(8)}, ["total"]))
    assert refused.value.code is Code.FAILED_PRECONDITION


def closed(device: BatchDevice) -> bool:
    """Waits until the device takes no more work."""
    end = time.monotonic() + 20
    while device.open and time.monotonic() < end:
        time.sleep(0.001)
    return not device.open


def test_a_device_that_is_closed_runs_what_is_queued_and_refuses_the_rest() -> None:
    async def main() -> None:
        session, device = Doubler(), BatchDevice(1)
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.ones(1)] * 3)
        closing = asyncio.create_task(asyncio.to_thread(device.close, 20))
        assert await asyncio.to_thread(closed, device)
        with pytest.raises(ServingError) as refused:
            await batcher.run({"x": np.ones(1)}, ["y"])
        assert refused.value.code is Code.UNAVAILABLE
        session.gate.set()
        assert len(await asyncio.gather(first, *waiting)) == 4
        await closing

    asyncio.run(main())


def test_requests_from_several_event_loops_each_get_their_own_rows() -> None:
    device = BatchDevice(2)
    session = Doubler()
    batcher = scheduler(session, device)
    wrong: list[object] = []

    def loop(marker: float) -> None:
        async def main() -> None:
            async def ask() -> None:
                for _ in range(50):
                    (found,) = await batcher.run({"x": np.full(2, marker)}, ["y"])
                    if found.tolist() != [2 * marker] * 2:
                        wrong.append(found)

            await asyncio.gather(*[ask() for _ in range(4)])

        asyncio.run(main())

    threads = [threading.Thread(target=loop, args=(100.0 + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    device.close(20)
    assert wrong == []
    assert sum(session.batches) == 4 * 4 * 50 * 2


class Quick(Doubler):
    """Notes the threads that run it."""

    def __init__(self, *, may_block: bool) -> None:
        super().__init__()
        self.may_block = may_block
        self.threads: list[threading.Thread] = []

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        self.threads.append(threading.current_thread())
        return [feeds["x"] * 2]


@pytest.mark.parametrize("may_block", [False, True])
def test_short_runs_of_a_lone_caller_stay_on_the_event_loop_unless_the_graph_may_block(
    device: BatchDevice, may_block: bool
) -> None:
    async def main() -> None:
        session = Quick(may_block=may_block)
        batcher = scheduler(session, device)
        for _ in range(300):
            await batcher.run({"x": np.ones(1)}, ["y"])
        inline = [thread is threading.current_thread() for thread in session.threads]
        assert not inline[0]
        assert not any(inline) if may_block else all(inline[-50:])

    asyncio.run(main())


def test_memory_of_a_batch_is_lent_to_the_session_as_it_is(device: BatchDevice) -> None:
    async def main() -> None:
        addresses: list[int] = []

        class Noting(Doubler):
            def run(
                self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None
            ) -> list[Array]:
                if feeds["x"].shape[0] > 1:
                    addresses.append(feeds["x"].__array_interface__["data"][0] % ALIGNMENT)
                return super().run(feeds, fetches, timeout=timeout)

        session = Noting()
        batcher = scheduler(session, device)
        first = await held(session, batcher)
        waiting = await queued(batcher, [np.ones((1, 30_000))] * 3)
        session.gate.set()
        await asyncio.gather(first, *waiting)
        assert addresses == [0]

    asyncio.run(main())


class Costly(Doubler):
    """Takes 20 ms for a batch and little for a row."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        time.sleep(0.02 + 0.0001 * feeds["x"].shape[0])
        return super().run(feeds, fetches, timeout=timeout)


def test_a_small_batch_waits_for_the_end_of_a_running_one_where_that_is_cheaper_but_not_for_ever() -> None:
    async def main() -> None:
        session, device = Costly(), BatchDevice(2)
        batcher = scheduler(session, device)
        for rows in (1, 30) * 8:
            await batcher.run({"x": np.ones(rows)}, ["y"])
            assert session.entered.acquire(timeout=20)
        first = await held(session, batcher)
        (waiting,) = await queued(batcher, [np.ones(1)])
        assert not await asyncio.to_thread(session.entered.acquire, timeout=0.05)
        assert await asyncio.to_thread(session.entered.acquire, timeout=20)
        session.gate.set()
        await asyncio.gather(first, waiting)
        await asyncio.to_thread(device.close, 20)

    asyncio.run(main())
