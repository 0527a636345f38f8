"""What people have (JSON, pictures, .npy files) <-> tensors of a signature's types and shapes.

Thread safety: pure functions.
"""

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loader import dtypes
from loader.dtypes import Array
from loader.signature import Signature, TensorSpec
from loader.status import Code, ServingError

Json = Any


def inputs_from_json(signature: Signature, value: Json) -> dict[str, Array]:
    """The inputs of a signature from parsed JSON.

    Taken are TensorFlow Serving's bodies, `{"instances": [...]}` (rows) and `{"inputs": ...}` (whole tensors), an
    object of whole tensors by input name, and, where the signature has one input, its bare value.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input that does not fit and what was wanted.
    """
    if isinstance(value, Mapping):
        if "instances" in value and "instances" not in signature.inputs:
            return _from_rows(signature, value["instances"])
        if "inputs" in value and ("inputs" not in signature.inputs or set(value) <= {"inputs", "signature_name"}):
            value = value["inputs"]
    if isinstance(value, Mapping) and not _is_base64(value):
        unknown = sorted(set(value) - set(signature.inputs))
        if unknown:
            raise _invalid(f"no input is named {unknown}: wanted {sorted(signature.inputs)}")
        return {name: cast(signature.inputs[name], each) for name, each in value.items()}
    return {_only_input(signature).alias: cast(_only_input(signature), value)}


def _from_rows(signature: Signature, rows: Json) -> dict[str, Array]:
    if not isinstance(rows, list) or not rows:
        raise _invalid("`instances` must be a list of one row or more")
    if not all(isinstance(row, Mapping) and not _is_base64(row) for row in rows):
        return {_only_input(signature).alias: cast(_only_input(signature), rows)}
    names = set(rows[0])
    if any(set(row) != names for row in rows):
        raise _invalid("the rows of `instances` have different keys")
    return inputs_from_json(signature, {name: [row[name] for row in rows] for name in rows[0]})


def _only_input(signature: Signature) -> TensorSpec:
    if len(signature.inputs) != 1:
        raise _invalid(
            f"signature '{signature.name}' has several inputs: wanted an object with {sorted(signature.inputs)}"
        )
    return next(iter(signature.inputs.values()))


def cast(spec: TensorSpec, value: Json | Array) -> Array:
    """A value as a tensor of a signature's type and shape.

    A value that lacks only the batch dimension gets one of size 1; a flat one is reshaped where the signature leaves
    no choice. Integers are checked to fit, never wrapped; a fraction is no integer.

    Raises:
        ServingError: INVALID_ARGUMENT when it does not fit.
    """
    dtype = dtypes.of_number(spec.dtype)
    array = _strings(spec, value) if dtype is dtypes.STRING else _numbers(spec, value, dtype)
    return _shaped(spec, array)


def _numbers(spec: TensorSpec, value: Json | Array, dtype: dtypes.DType) -> Array:
    try:
        found = np.asarray(value)
        if found.dtype == dtype.numpy:
            return found
        if found.dtype.kind in "USO":
            raise _invalid(f"input '{spec.alias}': wanted {dtype.name}, found text or rows of different lengths")
        if dtype is dtypes.BOOL and found.dtype.kind != "b" and not np.isin(found, (0, 1)).all():
            raise _invalid(f"input '{spec.alias}': wanted true or false")
        with np.errstate(over="ignore", invalid="ignore"):
            # A list of Python numbers goes to the wanted type at once: int64 does not pass through a double.
            array: Array = found.astype(dtype.numpy) if isinstance(value, np.ndarray) else np.array(value, dtype.numpy)
            if dtype.numpy.kind in "iu" and not np.array_equal(array, found):
                raise _invalid(f"input '{spec.alias}': a number does not fit into {dtype.name}")
    except (ValueError, TypeError, OverflowError) as error:
        raise _invalid(f"input '{spec.alias}': wanted {dtype.name}: {error}") from error
    return array


def _strings(spec: TensorSpec, value: Json | Array) -> Array:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    flat: list[bytes] = []
    _collect(spec, value, shape, flat)
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(shape)


def _collect(spec: TensorSpec, value: Json, shape: Sequence[int], flat: list[bytes]) -> None:
    if isinstance(value, list) and shape and len(value) == shape[0]:
        for each in value:
            _collect(spec, each, shape[1:], flat)
    elif isinstance(value, list) or shape:
        raise _invalid(f"input '{spec.alias}': rows of different lengths")
    elif isinstance(value, bytes):
        flat.append(value)
    elif isinstance(value, str):
        flat.append(value.encode("utf-8", "surrogateescape"))
    elif _is_base64(value):
        try:
            flat.append(base64.b64decode(value["b64"], validate=True))
        except (binascii.Error, ValueError, TypeError) as error:
            raise _invalid(f"input '{spec.alias}': not base64: {error}") from error
    else:
        raise _invalid(f"input '{spec.alias}': wanted text or {{\"b64\": ...}}, found {str(value)[:64]!r}")


def _is_base64(value: Json) -> bool:
    return isinstance(value, Mapping) and set(value) == {"b64"}


def _shaped(spec: TensorSpec, array: Array) -> Array:
    wanted = spec.shape
    if wanted is None or _fits(array.shape, wanted):
        return array
    if wanted and wanted[0] in (-1, 1) and _fits(array.shape, wanted[1:]):
        return array[np.newaxis]
    if array.ndim == 1 and sum(size < 0 for size in wanted) <= 1:
        try:
            return array.reshape(wanted)
        except ValueError:
            pass
    raise _invalid(f"input '{spec.alias}': found shape {list(array.shape)}, wanted {list(wanted)}")


def _fits(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(found) == len(wanted) and all(b in (-1, a) for a, b in zip(found, wanted, strict=True))


def inputs_from_image(signature: Signature, content: bytes) -> dict[str, Array]:
    """The one input of a signature from an encoded picture.

    A string input gets the file's bytes; a numeric one of shape [batch, height, width, 1 or 3] gets the pixels, resized
    to the height and width that the signature fixes: 0 to 255 for integers, 0 to 1 for floats.

    Raises:
        ServingError: INVALID_ARGUMENT for another kind of input, or a file that is no picture.
    """
    spec = _only_input(signature)
    if spec.dtype == dtypes.STRING.number:
        return {spec.alias: cast(spec, content)}
    shape = spec.shape
    if shape is None or len(shape) not in (3, 4) or shape[-1] not in (1, 3):
        raise _invalid(f"input '{spec.alias}' of shape {shape} is no picture: wanted [batch, height, width, 1 or 3]")
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  only pictures pay for it

    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("RGB" if shape[-1] == 3 else "L")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise _invalid(f"not a picture that can be read: {error}") from error
    height, width = (size if size > 0 else own for size, own in zip(shape[-3:-1], picture.size[::-1], strict=True))
    pixels: Array = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).reshape(
        height, width, shape[-1]
    )
    if dtypes.of_number(spec.dtype).numpy.kind not in "iu":
        pixels = pixels.astype(np.float32) / np.float32(255)
    return {spec.alias: cast(spec, pixels.astype(dtypes.of_number(spec.dtype).numpy))}


def inputs_from_npy(signature: Signature, content: bytes) -> dict[str, Array]:
    """The inputs of a signature from a .npy file (one input) or a .npz file (by name). Nothing in it is executed.

    Raises:
        ServingError: INVALID_ARGUMENT for another kind of file.
    """
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {_only_input(signature).alias: cast(_only_input(signature), loaded)}
        arrays = {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError) as error:
        raise _invalid(f"not a .npy or .npz file of plain arrays: {error}") from error
    return inputs_from_json(signature, arrays)


def to_json(array: Array) -> Json:
    """A tensor as nested lists; a string that is not UTF-8 as `{"b64": ...}`. Floats keep their own shortest text."""
    if array.dtype.kind == "O":
        return _texts(array.tolist())
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        # A float32 0.1 shall read 0.1, not 0.10000000149011612.
        return np.array([float(str(each)) for each in array.ravel()]).reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        return _texts(array.astype(str).tolist())
    return array.astype(np.float64).tolist() if array.dtype.kind not in "biuf" else array.tolist()


def _texts(value: Any) -> Json:
    if isinstance(value, list):
        return [_texts(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return value


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
