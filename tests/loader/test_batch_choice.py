"""Requests of low priority wait for others, keep them company as the policy says, and are never forgotten."""

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from loader.batch_choice import cheaper_down
from loader.batch_cost import BatchCost
from loader.batch_device import BatchDevice
from loader.batching import BatchScheduler
from loader.batching_parameters import BATCH_PADDING_POLICIES, MIXED_PRIORITY_POLICIES, BatchingParameters
from loader.priority import low_priority
from loader.status import Code, ServingError
from tests.loader.test_batching import Doubler, held

SIZES = (1, 4, 8)


@pytest.fixture
def device() -> Iterator[BatchDevice]:
    made = BatchDevice(1)
    yield made
    made.close(20)


def scheduler(session: Doubler, device: BatchDevice, **given: object) -> BatchScheduler:
    usual: dict[str, object] = {"max_batch_size": 8, "low_priority_max_batch_size": 4}
    return BatchScheduler(session, device, BatchingParameters(**usual | given))  # type: ignore[arg-type]


async def one(batcher: BatchScheduler, marker: float, *, low: bool, rows: int = 1) -> float:
    low_priority.set(low)
    (result,) = await batcher.run({"x": np.full(rows, marker + 0.25)}, ["y"])
    assert result.shape == (rows,)
    return float(result[0]) - 0.5


async def crowd(session: Doubler, batcher: BatchScheduler, callers: Sequence[bool]) -> list[int]:
    """The sizes of the batches of callers (low or not) that came while the session was busy, in their order."""
    await one(batcher, 0.0, low=False)
    await one(batcher, 0.0, low=False, rows=2)  # sizes differ: the kind is known to follow its rows
    assert session.entered.acquire(timeout=20)
    assert session.entered.acquire(timeout=20)
    first = await held(session, batcher)
    session.batches.clear()
    tasks = [asyncio.create_task(one(batcher, float(n), low=low)) for n, low in enumerate(callers)]
    await asyncio.sleep(0)
    session.gate.set()
    assert await asyncio.gather(*tasks) == [2.0 * n for n in range(len(callers))]
    await first
    return session.batches


@pytest.mark.parametrize(
    ("policy", "batches"),
    [
        ("low_priority_padding_with_max_batch_size", [8, 2]),
        ("low_priority_padding_with_next_allowed_batch_size", [4, 4, 2]),
        ("priority_isolation", [4, 4, 4]),
        ("priority_merge", [8, 4]),
    ],
)
def test_each_policy_lets_its_share_of_low_priority_into_a_batch_of_others(
    device: BatchDevice, policy: str, batches: list[int]
) -> None:
    session = Doubler()
    batcher = scheduler(
        session,
        device,
        mixed_priority_policy=policy,
        allowed_batch_sizes=SIZES,
        low_priority_allowed_batch_sizes=(2, 4),
    )
    # Low first: to come first is no way past those who may not wait.
    found = asyncio.run(crowd(session, batcher, [True] * 7 + [False] * 3))
    assert found == batches


def test_where_nothing_is_said_of_low_priority_all_requests_are_equal(device: BatchDevice) -> None:
    session = Doubler()
    batcher = scheduler(session, device, low_priority_max_batch_size=0)
    assert asyncio.run(crowd(session, batcher, [True, False] * 3)) == [6]


def test_low_priority_alone_is_served_in_batches_of_its_own_size(device: BatchDevice) -> None:
    session = Doubler()
    assert asyncio.run(crowd(session, scheduler(session, device), [True] * 9)) == [4, 4, 1]


def test_low_priority_has_limits_of_its_own(device: BatchDevice) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device, low_priority_max_enqueued_batches=1)
        with pytest.raises(ServingError, match="Task size 5 is larger than maximum input batch size 4") as refused:
            await one(batcher, 1.0, low=True, rows=5)
        assert refused.value.code is Code.INVALID_ARGUMENT
        first = await held(session, batcher)
        waiting = [asyncio.create_task(one(batcher, 1.0, low=True)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(ServingError, match="1 batches enqueued and max_enqueued_batches is 1") as full:
            await one(batcher, 1.0, low=True)
        assert full.value.code is Code.RESOURCE_EXHAUSTED
        other = asyncio.create_task(one(batcher, 1.0, low=False))
        await asyncio.sleep(0)
        session.gate.set()
        await asyncio.gather(first, other, *waiting)

    asyncio.run(main())


def test_low_priority_waits_for_company_until_there_is_enough_or_another_request_takes_it_along(
    device: BatchDevice,
) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(session, device, low_priority_batch_timeout_micros=60_000_000)
        for rows in (1, 2):
            await one(batcher, 0.0, low=False, rows=rows)
        session.batches.clear()
        async with asyncio.timeout(20):
            waiting = [asyncio.create_task(one(batcher, 1.0, low=True)) for _ in range(4)]
            await asyncio.gather(*waiting)  # as many as make a batch
            waiting = [asyncio.create_task(one(batcher, 1.0, low=True)) for _ in range(3)]
            await asyncio.sleep(0)
            assert not waiting[0].done()
            await one(batcher, 2.0, low=False)
            await asyncio.gather(*waiting)
        assert session.batches == [4, 4]

    asyncio.run(main())


@pytest.mark.parametrize(("policy", "batches"), [("PAD_UP", [8]), ("BATCH_DOWN", [4, 1])])
def test_between_two_allowed_sizes_the_padding_policy_decides(
    device: BatchDevice, policy: str, batches: list[int]
) -> None:
    session = Doubler()
    batcher = scheduler(session, device, allowed_batch_sizes=SIZES, batch_padding_policy=policy)
    assert asyncio.run(crowd(session, batcher, [False] * 5)) == batches


@pytest.mark.parametrize(("fixed", "per_row", "down"), [(0.001, 1.0, True), (1.0, 0.001, False)])
def test_the_cheapest_padding_is_learned_from_the_runs(fixed: float, per_row: float, *, down: bool) -> None:
    cost = BatchCost()
    for rows in (1, 4, 8) * 5:
        cost.observe(rows, fixed + per_row * rows)
    assert cheaper_down(cost, 4, 5, 8) is down


@pytest.mark.parametrize("mixed", MIXED_PRIORITY_POLICIES)
@pytest.mark.parametrize("padding", BATCH_PADDING_POLICIES)
def test_nobody_is_forgotten_or_gets_anothers_rows_under_any_policy(
    device: BatchDevice, mixed: str, padding: str
) -> None:
    async def main() -> None:
        session = Doubler()
        batcher = scheduler(
            session,
            device,
            mixed_priority_policy=mixed,
            batch_padding_policy=padding,
            allowed_batch_sizes=SIZES,
            low_priority_max_enqueued_batches=1000,
            max_enqueued_batches=1000,
        )
        calls = [one(batcher, float(n), low=n % 3 == 0, rows=1 + n % 4) for n in range(300)]
        async with asyncio.timeout(60):
            assert await asyncio.gather(*map(asyncio.create_task, calls)) == [2.0 * n for n in range(300)]
        assert batcher._queues.tasks == 0

    asyncio.run(main())
