"""Signatures of what is no SavedModel: from names, types and shapes to the same value, its message included.

Source: tensorflow/core/protobuf/meta_graph.proto (SignatureDef, TensorInfo), core/framework/tensor_shape.proto.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from loader.signature import PREDICT_METHOD, Signature, TensorSpec
from loader.wire import length_field, varint_field

Dimensions = Mapping[str, Sequence[str]]
"""Name of a tensor -> names of its dimensions, empty where one has none: equal names are equally long."""


def made_signature(
    name: str, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], dimensions: Dimensions | None = None
) -> Signature:
    """A signature that answers Predict.

    Args:
        name: its key in the model's signature map.
        inputs: in any order.
        outputs: in any order.
        dimensions: names of dimensions, where they are known; padded requests are cut back by them.
    """
    named = dimensions or {}
    found_in, found_out = ({spec.alias: spec for spec in specs} for specs in (inputs, outputs))
    message = b"".join(
        length_field(field, length_field(1, alias.encode()) + length_field(2, _info(spec, named.get(spec.name, ()))))
        for field, specs in ((1, found_in), (2, found_out))
        for alias, spec in specs.items()
    )
    return Signature(
        name,
        PREDICT_METHOD,
        MappingProxyType(found_in),
        MappingProxyType(found_out),
        serialized=message + length_field(3, PREDICT_METHOD.encode()),
    )


def _info(spec: TensorSpec, names: Sequence[str]) -> bytes:
    if spec.shape is None:
        shape = varint_field(3, 1)
    else:
        padded = [*names, *[""] * (len(spec.shape) - len(names))]
        shape = b"".join(_dimension(size, name) for size, name in zip(spec.shape, padded, strict=True))
    return length_field(1, spec.name.encode()) + varint_field(2, spec.dtype) + length_field(3, shape)


def _dimension(size: int, name: str) -> bytes:
    return length_field(2, varint_field(1, size) + (length_field(2, name.encode()) if name else b""))
