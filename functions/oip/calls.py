"""What the Open Inference Protocol's calls mean, whatever carries them: REST and gRPC are two codecs around this.

A model version is the protocol's `version`; a version that is not a number is one of the model's labels (`canary`).
The signature is the request parameter `signature_name`, by default `serving_default`, or the model's only one.

Source: kserve/open-inference-protocol, specification/protocol; Triton's model repository extension; rows E1-E10 of the
project's reference.
"""

import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from functions.client.signature_choice import choose, runnable
from functions.observing.current_access import note_asked
from functions.observing.metrics import Metrics
from functions.oip.tensors import datatype_of
from functions.run_call import run_call
from loader import dtypes
from loader.dtypes import Array
from loader.inference import predict_call
from loader.manager import ServableManager
from loader.servable import ModelSpec, State, VersionStatus
from loader.servable_handle import ServableHandle
from loader.signature import Signature, TensorSpec
from loader.status import Code, ServingError

SERVER_NAME = "zeroserve"
EXTENSIONS = ("binary_tensor_data", "model_repository")
"""The extensions that clients look for; the names are Triton's."""

MAX_VERSION = 2**63 - 1
DEFAULT_WAIT = 30.0
"""Seconds that a request without a deadline waits for the first load."""

Wait = Callable[[ModelSpec, float], Awaitable[None]]
"""Returns once a model can be used or the first loads are over; the deadline is in `time.monotonic()` seconds."""


class Repository(Protocol):
    """What `load` and `unload` act on. Both return when the wish is noted; the index shows what becomes of it."""

    async def load(self, name: str) -> None:
        """Serve the model again. NOT_FOUND when no configuration names it."""

    async def unload(self, name: str) -> None:
        """Serve the model no longer; requests under way finish. NOT_FOUND when it is not served."""


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """One input or output as the protocol shows it; -1 for a size that varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives.

    Attributes:
        versions: those that answer, in ascending order, as texts.
        signature_name: the signature that `inputs` and `outputs` are of.
        signatures: all names that the parameter `signature_name` may have.
        platform: `<project>_<format>`.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    signature_name: str
    signatures: tuple[str, ...]
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@dataclass(frozen=True, slots=True)
class Inference:
    """The result of one infer call: who answered, and its outputs in the order asked for."""

    model_name: str
    model_version: str
    outputs: tuple[tuple[str, Array], ...]


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """One line of the repository's index.

    Attributes:
        state: READY, LOADING, UNLOADING or UNAVAILABLE.
        reason: why it is not ready; empty while all is well.
    """

    name: str
    version: str
    state: str
    reason: str


class OipModels:
    """The models as the Open Inference Protocol sees them. One event loop owns it.

    Args:
        manager: the models.
        metrics: where runs are counted.
        wait: how a request waits for a model that is still in its first load; None to answer UNAVAILABLE at once.
        repository: where models are loaded and unloaded; None answers UNIMPLEMENTED.
    """

    def __init__(
        self,
        manager: ServableManager,
        metrics: Metrics,
        *,
        wait: Wait | None = None,
        repository: Repository | None = None,
    ) -> None:
        self._manager = manager
        self._metrics = metrics
        self._wait = wait
        self._repository = repository

    @functools.cached_property
    def server_version(self) -> str:
        """This package's version."""
        from importlib.metadata import version  # noqa: PLC0415  milliseconds that no prediction needs

        return version("zeroserve")

    @property
    def ready(self) -> bool:
        """Whether every model that was wanted at the start has been loaded."""
        return self._manager.ready

    def known(self, name: str) -> bool:
        """Whether there is such a model: what callers make up must not become a label of a metric."""
        return name in self._manager.names()

    def model_ready(self, name: str, version: str) -> bool:
        """Whether this version of the model answers. NOT_FOUND when the model or the version is not known at all."""
        try:
            self._handle(self.spec(name, version)).release()
        except ServingError as error:
            if error.code is Code.UNAVAILABLE:
                return False
            raise
        return True

    def spec(self, name: str, version: str) -> ModelSpec:
        """The model that a request names: `version` is a number, a label, or empty for the highest that answers.

        Raises:
            ServingError: INVALID_ARGUMENT for an empty name or a number beyond 63 bits.
        """
        if not name:
            raise ServingError(Code.INVALID_ARGUMENT, "the request names no model")
        if not version:
            return ModelSpec(name)
        if not (version.isascii() and version.isdigit()):
            return ModelSpec(name, label=version)
        digits = version.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) > MAX_VERSION:
            raise ServingError(Code.INVALID_ARGUMENT, f"version {version[:32]} of model '{name}' is over {MAX_VERSION}")
        return ModelSpec(name, int(digits))

    def metadata(self, name: str, version: str, signature_name: str = "") -> ModelMetadata:
        """What a model version takes and gives. Errors as `infer`."""
        with self._handle(self.spec(name, version)) as handle:
            model = handle.servable.model
            signature = choose(model.signatures, signature_name)
            available = [status.version for status in self._manager.statuses(name) if status.state is State.AVAILABLE]
            return ModelMetadata(
                name,
                tuple(str(each) for each in sorted(available)),
                model.platform,
                signature.name,
                tuple(runnable(model.signatures)),
                tuple(_tensor(spec) for _, spec in sorted(signature.inputs.items())),
                tuple(_tensor(spec) for _, spec in sorted(signature.outputs.items())),
            )

    async def infer(
        self,
        name: str,
        version: str,
        *,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: float | None,
    ) -> Inference:
        """Runs one prediction.

        Args:
            name: the model.
            version: a number, a label, or empty.
            signature_name: empty for the default.
            inputs: by the signature's input names.
            outputs: the outputs wanted, in this order; empty for all, in the order of their names.
            deadline: in `time.monotonic()` seconds; None for no limit.

        Raises:
            ServingError: NOT_FOUND for an unknown model or version; UNAVAILABLE while it loads; INVALID_ARGUMENT for
                an unknown signature, input or output, or a tensor of the wrong type or shape; and what the run raises.
        """
        spec = self.spec(name, version)
        note_asked("infer", spec)
        if self._wait is not None:
            await self._wait(spec, time.monotonic() + DEFAULT_WAIT if deadline is None else deadline)
        with self._handle(spec) as handle:
            servable = handle.servable
            signature = choose(servable.model.signatures, signature_name)
            _check_inputs(signature, inputs)
            call = predict_call(servable.model, signature.name, inputs, outputs)
            values = (await run_call(servable, "infer", call, deadline, self._metrics)).outputs
            order = outputs or sorted(values)
            return Inference(
                servable.id.name, str(servable.id.version), tuple((alias, values[alias]) for alias in order)
            )

    def index(self, *, only_ready: bool = False) -> list[ModelIndex]:
        """Every known version of every model."""
        lines: list[ModelIndex] = []
        for name in sorted(self._manager.names()):
            try:
                statuses: Iterable[VersionStatus] = reversed(self._manager.statuses(name))
            except ServingError as error:
                lines.append(ModelIndex(name, "", "UNAVAILABLE", error.message))
                continue
            lines.extend(_index_line(name, status) for status in statuses)
        return [line for line in lines if line.state == "READY" or not only_ready]

    async def load(self, name: str) -> None:
        """Serves a model again. UNIMPLEMENTED where the set of models is fixed."""
        await self._changeable().load(name)

    async def unload(self, name: str) -> None:
        """Serves a model no longer. UNIMPLEMENTED where the set of models is fixed."""
        await self._changeable().unload(name)

    def _changeable(self) -> Repository:
        if self._repository is None:
            raise ServingError(
                Code.UNIMPLEMENTED,
                "this server's models come from its configuration alone; change the configuration, or call "
                "tensorflow.serving.ModelService/HandleReloadConfigRequest",
            )
        return self._repository

    def _handle(self, spec: ModelSpec) -> ServableHandle:
        try:
            return self._manager.handle(spec)
        except ServingError as error:
            if error.code is Code.INVALID_ARGUMENT and spec.label is not None:
                raise ServingError(Code.NOT_FOUND, error.message) from error
            if error.code is not Code.NOT_FOUND:
                raise
            coming = self._coming(spec)
            if coming is None:
                raise
            raise ServingError(
                Code.UNAVAILABLE, f"version {coming.version} of model '{spec.name}' is {coming.state.name}; retry later"
            ) from error

    def _coming(self, spec: ModelSpec) -> VersionStatus | None:
        """The version on its way that would answer `spec`, if there is one."""
        try:
            statuses = self._manager.statuses(spec.name)
        except ServingError:
            return None
        version = spec.version
        if spec.label is not None:
            version = self._manager.label_version(spec.name, spec.label)
        for status in statuses:
            if status.state in (State.START, State.LOADING) and version in (None, status.version):
                return status
        return None


def _check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """Says what is wrong in the protocol's own words; the runtime's would name tensors inside the graph."""
    for name, array in inputs.items():
        spec = signature.inputs.get(name)
        if spec is None:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"input '{name}' is not in the signature: wanted {sorted(signature.inputs)}"
            )
        if dtypes.of_numpy(array.dtype).number != spec.dtype:
            found = datatype_of(dtypes.of_numpy(array.dtype).number)
            raise ServingError(
                Code.INVALID_ARGUMENT, f"input '{name}': found datatype {found}, wanted {datatype_of(spec.dtype)}"
            )
        if spec.shape is not None and not _fits(array.shape, spec.shape):
            raise ServingError(
                Code.INVALID_ARGUMENT, f"input '{name}': found shape {list(array.shape)}, wanted {list(spec.shape)}"
            )


def _fits(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(found) == len(wanted) and all(b in (-1, a) for a, b in zip(found, wanted, strict=True))


def _tensor(spec: TensorSpec) -> TensorMetadata:
    # The protocol has no unknown rank: one size that varies comes nearest.
    return TensorMetadata(spec.alias, datatype_of(spec.dtype), (-1,) if spec.shape is None else spec.shape)


_STATES = {State.AVAILABLE: "READY", State.START: "LOADING", State.LOADING: "LOADING", State.UNLOADING: "UNLOADING"}


def _index_line(name: str, status: VersionStatus) -> ModelIndex:
    state = _STATES.get(status.state, "UNAVAILABLE")
    reason = status.error.message if status.error else ("" if state != "UNAVAILABLE" else "unloaded")
    return ModelIndex(name, str(status.version), state, reason)
