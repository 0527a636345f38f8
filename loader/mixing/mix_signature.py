"""The signature of a mix, as a SavedModel would have it: what it takes, what it gives, and the message for metadata."""

from collections.abc import Mapping
from types import MappingProxyType

from loader.mixing.declaration import DTYPES, Mix, Tensor
from loader.signature import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature, TensorSpec
from loader.wire import length_field, varint_field


def mix_signature(mix: Mix) -> Signature:
    """`serving_default`, with the inputs and outputs that the mix declares.

    Source: tensorflow/core/protobuf/meta_graph.proto (SignatureDef, TensorInfo), core/framework/tensor_shape.proto.
    """
    message = b"".join(
        length_field(field, length_field(1, alias.encode()) + length_field(2, _info(alias, tensor)))
        for field, tensors in ((1, mix.inputs), (2, mix.outputs))
        for alias, tensor in tensors.items()
    )
    return Signature(
        DEFAULT_SIGNATURE,
        PREDICT_METHOD,
        _specs(mix.inputs),
        _specs(mix.outputs),
        serialized=message + length_field(3, PREDICT_METHOD.encode()),
    )


def _specs(tensors: Mapping[str, Tensor]) -> Mapping[str, TensorSpec]:
    return MappingProxyType(
        {alias: TensorSpec(alias, alias, DTYPES[one.dtype], one.shape) for alias, one in tensors.items()}
    )


def _info(alias: str, tensor: Tensor) -> bytes:
    shape = b"".join(length_field(2, varint_field(1, size)) for size in tensor.shape)
    return length_field(1, alias.encode()) + varint_field(2, DTYPES[tensor.dtype]) + length_field(3, shape)
