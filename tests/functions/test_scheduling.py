"""Settings and files become batching parameters, by the stock server's rules."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from functions.config import Settings, load_settings
from functions.observing.metrics import Metrics
from functions.scheduling import Scheduling, batching_parameters
from loader.batching import BatchScheduler
from loader.batching_parameters import BatchingParameters
from loader.cpu import cpu_count
from loader.saved_model import SavedModel, load
from loader.scheduler import DirectScheduler
from loader.servable import ServableId
from loader.session import SessionOptions
from loader.status import Code, ServingError

MODEL = ("--model_name=m", "--model_base_path=/m")
SERVABLE = ServableId("m", 1)


def given(*flags: str) -> Settings:
    return load_settings([*MODEL, *flags])


@pytest.fixture(scope="module")
def model(golden: Path) -> Iterator[SavedModel]:
    loaded = load(golden / "half_plus_two" / "1", SessionOptions())
    yield loaded
    loaded.session.close()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_without_a_file_the_pool_has_the_stock_servers_name() -> None:
    found = batching_parameters(given("--enable_batching"))
    assert found == BatchingParameters(thread_pool_name="model_server_batch_threads", num_batch_threads=cpu_count())


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "batching.conf"
    file.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 500 } max_enqueued_batches { value: 3 }"
        " num_batch_threads { value: 1 }"
    )
    flags = ("--enable_batching", f"--batching_parameters_file={file}", "--batch_timeout_micros=0")
    found = batching_parameters(given(*flags, "--allowed_batch_sizes=2,8", "--pad_variable_length_inputs"))
    assert found == BatchingParameters(8, 0, 3, 1, "batch_threads", (2, 8), pad_variable_length_inputs=True)


@pytest.mark.parametrize("flag", ["--max_batch_size=8", "--batch_timeout_micros=0", "--thread_pool_name=p"])
def test_batching_settings_without_batching_stop_the_start(flag: str, executor: ThreadPoolExecutor) -> None:
    with pytest.raises(ServingError, match="is set without setting server_options") as refused:
        Scheduling(given(flag), executor, Metrics())
    assert refused.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--batching_parameters_file=/no/such",), "cannot be read"),
        (("--allowed_batch_sizes=1,x",), "wanted numbers such as 1,8,32"),
        (("--max_batch_size=16", "--allowed_batch_sizes=1,8"), "must match max_batch_size; last entry was 8; expected"),
        (("--max_execution_batch_size=4",), "needs enable_large_batch_splitting"),
    ],
)
def test_parameters_that_cannot_be_are_refused_by_name(flags: tuple[str, ...], text: str) -> None:
    with pytest.raises(ServingError, match=text):
        batching_parameters(given("--enable_batching", *flags))


def test_without_batching_each_request_is_a_run_of_its_own(
    tmp_path: Path, model: SavedModel, executor: ThreadPoolExecutor
) -> None:
    scheduling = Scheduling(given(), executor, Metrics())
    assert isinstance(scheduling.scheduler(SERVABLE, model, tmp_path), DirectScheduler)
    scheduling.close(1)


def test_per_model_parameters_batch_only_versions_that_have_a_file(
    tmp_path: Path, model: SavedModel, executor: ThreadPoolExecutor
) -> None:
    scheduling = Scheduling(given("--enable_batching", "--enable_per_model_batching_parameters"), executor, Metrics())
    assert isinstance(scheduling.scheduler(SERVABLE, model, tmp_path), DirectScheduler)
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 4 }")
    batcher = scheduling.scheduler(SERVABLE, model, tmp_path)
    assert isinstance(batcher, BatchScheduler)
    batcher.close()
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: -4 }")
    with pytest.raises(ServingError, match="max_batch_size must be positive; was -4"):
        scheduling.scheduler(SERVABLE, model, tmp_path)
    scheduling.close(20)


def test_the_sidecar_gives_a_version_its_weight(
    tmp_path: Path, model: SavedModel, executor: ThreadPoolExecutor
) -> None:
    folder = tmp_path / "assets.extra"
    folder.mkdir()
    (folder / "zeroserve.json").write_text('{"batching": {"weight": 2.5}}')
    scheduling = Scheduling(given("--enable_batching"), executor, Metrics())
    batcher = scheduling.scheduler(SERVABLE, model, tmp_path)
    assert isinstance(batcher, BatchScheduler)
    assert batcher.weight == 2.5
    batcher.close()
    scheduling.close(20)


def test_workers_divide_the_batching_threads_among_them(executor: ThreadPoolExecutor) -> None:
    made = Scheduling(given("--enable_batching", "--num_batch_threads=6", "--workers=4"), executor, Metrics())
    try:
        assert len([one for one in threading.enumerate() if one.name.startswith("model_server_batch_threads-")]) == 1
    finally:
        made.close(10)


def test_priority_settings_are_flags_too() -> None:
    flags = ("--low_priority_max_batch_size=4", "--low_priority_allowed_batch_sizes=2,4")
    found = batching_parameters(given("--enable_batching", *flags, "--mixed_priority_policy=priority_merge"))
    assert (found.low_priority_max_batch_size, found.low_priority_allowed_batch_sizes) == (4, (2, 4))
    assert found.mixed_priority_policy == "priority_merge"
