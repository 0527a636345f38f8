"""A mix runs each row's branch once, and gives the rows back in order."""

import asyncio
import copy
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loader.dtypes import Array
from loader.mixing.mixer import Mixer
from loader.mixing.row_functions import FUNCTIONS
from loader.status import Code, ServingError
from tests.loader.mixes import CASCADE, SCORES, Observed, RowModel, mix_of, run

ROWS = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-2, 2, width=32))


def asks(**models: RowModel) -> Any:
    return {name: [model.ask] for name, model in models.items()}


@given(ROWS, st.booleans())
@settings(deadline=None)
def test_a_batch_gives_what_its_rows_give_one_by_one(x: Array, down: bool) -> None:
    large = RowModel(2, failure=Code.UNAVAILABLE if down else Code.OK)
    targets = asks(small=RowModel(1), large=large)
    whole = run(CASCADE, targets, {"x": x})
    alone = [run(CASCADE, targets, {"x": x[row : row + 1]}) for row in range(len(x))]
    for place, output in enumerate(whole):
        np.testing.assert_array_equal(output, np.concatenate([each[place] for each in alone]))


@given(ROWS)
@settings(deadline=None)
def test_the_large_model_gets_the_unsure_rows_in_order_and_no_others(x: Array) -> None:
    large, observed = RowModel(2), Observed()
    scores, sure = run(CASCADE, asks(small=RowModel(1), large=large), {"x": x}, observed=observed)
    unsure = x.max(axis=1) < 0.8
    np.testing.assert_array_equal(sure, ~unsure)
    np.testing.assert_array_equal(scores[~unsure], x[~unsure])
    np.testing.assert_array_equal(scores[unsure], x[unsure] * 3)
    assert len(large.asked) == unsure.any()
    if unsure.any():
        np.testing.assert_array_equal(large.asked[0], x[unsure])
    counted = {(step, branch): count for step, branch, count in observed.counts}
    assert counted.get(("large", "run"), 0) == unsure.sum()
    assert counted.get(("large", "otherwise"), 0) == (~unsure).sum()
    assert counted["small", "run"] == len(x)


VOTE: dict[str, Any] = {
    "inputs": {"x": {"dtype": "float32", "shape": [-1, 3]}},
    "steps": {name: {"model": name, "inputs": {"x": "x"}} for name in "abc"},
    "outputs": {
        "digit": {"value": "vote(a.digit, b.digit, c.digit)", "dtype": "int64", "shape": [-1]},
        "scores": {"value": "average(a.scores, b.scores, c.scores)", **SCORES},
        "all": {"value": "concat(a.scores, b.scores)", "dtype": "float32", "shape": [-1, 6]},
    },
}


def test_models_side_by_side_vote_and_are_averaged() -> None:
    x = np.array([[0.1, 0.2, 0.3], [3, 2, 1]], np.float32)
    digit, scores, both = run(VOTE, asks(a=RowModel(1), b=RowModel(-1), c=RowModel(3)), {"x": x})
    assert digit.tolist() == [2, 0]
    np.testing.assert_allclose(scores, x)
    np.testing.assert_array_equal(both, np.concatenate([x, -x], axis=1))


@pytest.mark.parametrize(
    ("columns", "expression", "beside"),
    [
        (3, "abs(large.scores)", False),
        (300_000, "abs(large.scores)", True),  # a small input, a large answer
        (300, " + ".join(["abs(large.scores)"] * 80), False),
        (4_000, " + ".join(["abs(large.scores)"] * 80), True),  # read often
    ],
)
def test_what_takes_long_to_reckon_is_reckoned_beside_the_event_loop(
    columns: int, expression: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def noted(name: str, values: list[Array]) -> Array:
        threads.add(threading.get_ident())
        return values[0]

    monkeypatch.setitem(FUNCTIONS, "abs", noted)
    declared = {
        "inputs": {"x": {"dtype": "float32", "shape": [-1, 3]}},
        "steps": {"large": {"model": "large", "inputs": {"x": "x"}}},
        "outputs": {"scores": {"value": expression, "dtype": "float64", "shape": [-1, -1]}},
    }

    async def ask(*_: Any) -> dict[str, Array]:
        return {"scores": np.ones((1, columns), np.float32)}

    run(declared, {"large": [ask]}, {"x": np.ones((1, 3), np.float32)})
    assert (threads == {threading.get_ident()}) == (not beside)


def test_steps_that_do_not_need_each_other_run_at_the_same_time() -> None:
    models = {name: RowModel(1, seconds=0.2) for name in "abc"}
    began = time.monotonic()
    run(VOTE, asks(**models), {"x": np.ones((1, 3), np.float32)})
    assert time.monotonic() - began < 0.5


def test_only_what_the_outputs_need_is_asked() -> None:
    models = {name: RowModel(1) for name in "abc"}
    run(VOTE, asks(**models), {"x": np.ones((1, 3), np.float32)}, outputs=["all"])
    assert [len(models[name].asked) for name in "abc"] == [1, 1, 0]


def test_no_rows_ask_nobody() -> None:
    small, large = RowModel(1), RowModel(2)
    scores, sure = run(CASCADE, asks(small=small, large=large), {"x": np.empty((0, 3), np.float32)})
    assert (scores.shape, scores.dtype, sure.dtype) == ((0, 3), np.float32, np.bool_)
    assert not small.asked
    assert not large.asked


UNSURE = {"x": np.full((2, 3), 0.5, np.float32)}


def test_the_next_target_answers_where_one_does_not() -> None:
    declared = copy.deepcopy(CASCADE)
    del declared["steps"]["large"]["model"]
    declared["steps"]["large"]["run"] = [{"model": "large"}, {"model": "medium"}]
    observed = Observed()
    targets = {
        "small": [RowModel(1).ask],
        "large": [RowModel(9, failure=Code.UNAVAILABLE).ask, RowModel(2).ask],
    }
    scores, _ = run(declared, targets, UNSURE, observed=observed)
    np.testing.assert_array_equal(scores, UNSURE["x"] * 3)
    assert ("large", "run_2", 2) in observed.counts
    assert ("large", "run", Code.UNAVAILABLE) in observed.codes


def test_a_fallback_takes_the_place_of_a_model_that_is_late_and_the_run_is_left_to_itself() -> None:
    declared = copy.deepcopy(CASCADE)
    declared["steps"]["large"]["deadline_ms"] = 50
    observed, large = Observed(), RowModel(2, seconds=20)
    began = time.monotonic()
    scores, sure = run(declared, asks(small=RowModel(1), large=large), UNSURE, observed=observed)
    assert time.monotonic() - began < 5
    np.testing.assert_array_equal(scores, UNSURE["x"] * 0.5)
    assert sure.tolist() == [False, False]
    assert ("large", "run", Code.DEADLINE_EXCEEDED) in observed.codes
    assert ("large", "fallback", 2) in observed.counts
    assert large.ended == 1  # it was told to stop


def test_without_a_fallback_the_failure_names_the_step() -> None:
    declared = copy.deepcopy(CASCADE)
    del declared["steps"]["large"]["fallback"]
    with pytest.raises(ServingError, match="step 'large': no") as error:
        run(declared, asks(small=RowModel(1), large=RowModel(1, failure=Code.UNAVAILABLE)), UNSURE)
    assert error.value.code is Code.UNAVAILABLE
    with pytest.raises(ServingError, match="step 'b': no"):
        run(VOTE, asks(a=RowModel(1), b=RowModel(1, failure=Code.INTERNAL), c=RowModel(1, seconds=20)), UNSURE)


def test_a_request_that_is_wrong_or_late_itself_does_not_fall_back() -> None:
    with pytest.raises(ServingError, match="no"):
        run(CASCADE, asks(small=RowModel(1), large=RowModel(1, failure=Code.INVALID_ARGUMENT)), UNSURE)
    late = RowModel(1, failure=Code.DEADLINE_EXCEEDED)
    with pytest.raises(ServingError, match="no") as error:
        run(CASCADE, asks(small=RowModel(1), large=late), UNSURE, deadline=time.monotonic() - 1)
    assert error.value.code is Code.DEADLINE_EXCEEDED


def test_a_caller_that_leaves_takes_its_steps_with_it() -> None:
    models = {name: RowModel(1, seconds=20) for name in "abc"}

    async def leave() -> None:
        mixer = Mixer(mix_of(VOTE), asks(**models), Observed())
        request = asyncio.create_task(mixer.run(UNSURE, ["digit"], None))
        await asyncio.sleep(0.05)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(leave())
    assert [model.ended for model in models.values()] == [1, 1, 1]


def test_answers_that_do_not_fit_the_mix_are_refused() -> None:
    declared = copy.deepcopy(CASCADE)
    declared["outputs"]["scores"]["shape"] = [-1, 4]
    with pytest.raises(ServingError, match=r"output 'scores' has shape \[2, 3\], wanted \[-1, 4\]"):
        run(declared, asks(small=RowModel(1), large=RowModel(2)), UNSURE)
    declared = copy.deepcopy(CASCADE)
    declared["outputs"]["scores"] = {"value": "large.scores", "dtype": "int32", "shape": [-1, 3]}
    with pytest.raises(ServingError, match="a value does not fit into int32"):
        run(declared, asks(small=RowModel(1), large=RowModel(1.5)), UNSURE)
    with pytest.raises(ServingError, match="the same rows"):
        run(CASCADE, asks(small=RowModel(1), large=RowModel(2)), {"x": np.array(1.0)})
