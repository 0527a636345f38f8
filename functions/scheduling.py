"""Which scheduler a version gets: each request a run of its own, or batches, as the settings say."""

import dataclasses
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from functions.config import Settings
from functions.observing.metrics import Metrics
from functions.sidecar import read_sidecar
from loader.saved_model import SavedModel
from loader.scheduler import DirectScheduler, Scheduler
from loader.servable import ServableId
from loader.status import Code, ServingError

if TYPE_CHECKING:
    from functions.observing.batch_metrics import BatchMetrics
    from loader.batch_device import BatchDevice
    from loader.batching_parameters import BatchingParameters

PER_MODEL_FILE = "batching_params.pbtxt"
"""In a version's folder, with `--enable_per_model_batching_parameters`."""

POOL_WITHOUT_FILE = "model_server_batch_threads"
"""The pool's name in metrics where no file names it. Source: tensorflow_serving/model_servers/server.cc."""

_FIELDS = (
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "thread_pool_name",
    "allowed_batch_sizes",
    "pad_variable_length_inputs",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
    "low_priority_max_batch_size",
    "low_priority_batch_timeout_micros",
    "low_priority_max_enqueued_batches",
    "low_priority_allowed_batch_sizes",
    "mixed_priority_policy",
    "batch_padding_policy",
)
"""Flags with the names of `BatchingParameters`' fields; at their default they leave a field to the file."""

_UNSET = Settings()


class Scheduling:
    """Makes schedulers. Thread-safe.

    Args:
        settings: the batching settings among them.
        executor: threads for runs that are not batched.
        metrics: where batches are counted.

    Raises:
        ServingError: INVALID_ARGUMENT for batching parameters that cannot be.
    """

    def __init__(self, settings: Settings, executor: Executor, metrics: Metrics) -> None:
        self._settings = settings
        self._executor = executor
        self._parameters: BatchingParameters | None = None
        self._device: BatchDevice | None = None
        self._metrics: BatchMetrics | None = None
        if not settings.enable_batching:
            _refuse_unused(settings)
        else:
            from functions.observing import batch_metrics  # noqa: PLC0415  only with the flag
            from loader import batch_device  # noqa: PLC0415

            whole = batching_parameters(settings)
            threads = max(1, whole.num_batch_threads // settings.workers)
            self._parameters = dataclasses.replace(whole, num_batch_threads=threads)
            self._device = batch_device.BatchDevice(
                self._parameters.num_batch_threads, self._parameters.thread_pool_name
            )
            self._metrics = batch_metrics.BatchMetrics(metrics, self._parameters.thread_pool_name)

    def scheduler(self, servable: ServableId, model: SavedModel, path: Path) -> Scheduler:
        """The scheduler of a version in the folder `path`.

        Raises:
            ServingError: the version's own batching parameters or its sidecar cannot be.
        """
        parameters = self._parameters
        if parameters is not None and self._settings.enable_per_model_batching_parameters:
            parameters = _of_version(path, parameters)
        if parameters is None or self._device is None or self._metrics is None:
            return DirectScheduler(model.session, self._executor)
        from loader.batching import BatchScheduler  # noqa: PLC0415  only with the flag
        from loader.batching_sidecar import parse_batching_sidecar  # noqa: PLC0415
        from loader.length_rule import fixed_rows, length_rule  # noqa: PLC0415

        sidecar = parse_batching_sidecar(read_sidecar(path).batching)
        return BatchScheduler(
            model.session,
            self._device,
            parameters,
            rule=length_rule(model.signatures, sidecar) if parameters.pad_variable_length_inputs else None,
            fixed_rows=fixed_rows(model.signatures, parameters.allowed_batch_sizes),
            weight=sidecar.weight,
            observer=self._metrics.observer(servable),
        )

    def close(self, timeout: float) -> None:
        """Ends the batching threads; every scheduler is closed by now. `timeout` in seconds."""
        if self._device is not None:
            self._device.close(timeout)


def _refuse_unused(settings: Settings) -> None:
    """Raises INVALID_ARGUMENT where batching is off and something is set that only batching reads."""
    for name in _FIELDS:
        if getattr(settings, name) != getattr(_UNSET, name):
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"server_options.{name} is set without setting server_options.enable_batching to true.",
            )


def batching_parameters(settings: Settings) -> "BatchingParameters":
    """The parameters of `--batching_parameters_file`, with the flags of the same names over them.

    Raises:
        ServingError: INVALID_ARGUMENT, naming what is wrong.
    """
    from loader.batching_parameters import BatchingParameters, parse_batching_parameters  # noqa: PLC0415

    file = settings.batching_parameters_file
    if file:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"--batching_parameters_file: {file} cannot be read: {error}"
            ) from None
        parameters = parse_batching_parameters(text)
    else:
        parameters = BatchingParameters(thread_pool_name=POOL_WITHOUT_FILE)
    given: dict[str, object] = {
        name: getattr(settings, name) for name in _FIELDS if getattr(settings, name) != getattr(_UNSET, name)
    }
    for name in ("allowed_batch_sizes", "low_priority_allowed_batch_sizes"):
        if name in given:
            given[name] = _sizes(name, getattr(settings, name))
    return dataclasses.replace(parameters, **given)  # type: ignore[arg-type]  # each flag has its field's type


def _sizes(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise ServingError(Code.INVALID_ARGUMENT, f"--{flag}: found {text!r}, wanted numbers such as 1,8,32") from None


def _of_version(path: Path, of_server: "BatchingParameters") -> "BatchingParameters | None":
    """The version's own parameters; the threads are the server's. None without a file: such a model is not batched."""
    from loader.batching_parameters import parse_batching_parameters  # noqa: PLC0415

    try:
        text = (path / PER_MODEL_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return dataclasses.replace(
        parse_batching_parameters(text),
        num_batch_threads=of_server.num_batch_threads,
        thread_pool_name=of_server.thread_pool_name,
    )
