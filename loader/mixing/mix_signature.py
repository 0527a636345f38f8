"""The signature of a mix, as a SavedModel would have it: what it takes, what it gives, and the message for metadata."""

from collections.abc import Mapping

from loader.made_signature import made_signature
from loader.mixing.declaration import DTYPES, Mix, Tensor
from loader.signature import DEFAULT_SIGNATURE, Signature, TensorSpec


def mix_signature(mix: Mix) -> Signature:
    """`serving_default`, with the inputs and outputs that the mix declares."""
    return made_signature(DEFAULT_SIGNATURE, _specs(mix.inputs), _specs(mix.outputs))


def _specs(tensors: Mapping[str, Tensor]) -> list[TensorSpec]:
    return [TensorSpec(alias, alias, DTYPES[one.dtype], one.shape) for alias, one in tensors.items()]
