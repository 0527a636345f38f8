"""What the universal client asks of a protocol, and what it gets. gRPC, REST and Open Inference Protocol are three."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loader.dtypes import Array
from loader.servable import ModelSpec
from loader.signature import Signature


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer.

    Attributes:
        model: the model that answered.
        version: its version; None where the protocol does not say (TensorFlow Serving's REST API).
        outputs: by name.
    """

    model: str
    version: int | None
    outputs: Mapping[str, Array]


class Transport(Protocol):
    """One protocol's way to ask. `deadline` is in `time.monotonic()` seconds; errors are `ServingError`s."""

    def signatures(self, spec: ModelSpec, signature_name: str, deadline: float) -> Mapping[str, Signature]:
        """The model's signatures, at least the one named (empty: the default one)."""

    def predict(
        self,
        spec: ModelSpec,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: float,
        *,
        headers: Mapping[str, str],
    ) -> Prediction:
        """One prediction with tensors of the right types and shapes; no `outputs` means all. `headers` go with it,
        names in small letters.
        """

    def close(self) -> None:
        """Frees connections."""
