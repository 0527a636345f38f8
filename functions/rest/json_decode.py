"""The body of a predict request: JSON to tensors by alias.

Good bodies of numbers are parsed straight into arrays (`functions.rest.json_fast`); everything else takes the exact way
(`functions.rest.json_exact`), which also says what is wrong in the stock server's words.

Source: tensorflow_serving/util/json_tensor.cc (FillPredictRequestFromJson, FillTensorMapFromInstancesList,
FillTensorMapFromInputsMap).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from functions.rest.json_base64 import is_base64
from functions.rest.json_exact import Column
from functions.rest.json_fast import INPUTS, INSTANCES, NumberBody, read_numbers
from functions.rest.json_text import parse_json, shortened, show
from loader.dtypes import Array
from loader.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from loader.status import Code, ServingError


@dataclass(frozen=True, slots=True)
class PredictBody:
    """A predict request as JSON says it.

    Attributes:
        signature_name: "" where the body names none.
        inputs: by alias; the arrays belong to the caller.
        output_filter: aliases of the outputs wanted, empty for all. An extension of ours.
        row: whether the answer is by rows (`predictions`) or by columns (`outputs`).
    """

    signature_name: str
    inputs: Mapping[str, Array]
    output_filter: Sequence[str]
    row: bool


def decode_predict(body: bytes, signatures: Mapping[str, Signature]) -> PredictBody:
    """Reads a predict request. Pure and thread-safe.

    Args:
        body: JSON text.
        signatures: the model's.

    Raises:
        ServingError: INVALID_ARGUMENT or UNIMPLEMENTED, with the stock server's text.
    """
    numbers = read_numbers(body, signatures)
    if isinstance(numbers, NumberBody):
        return PredictBody(numbers.signature_name, numbers.inputs, (), numbers.row)
    document = parse_json(body)
    if not isinstance(document, dict):
        raise _about(document, "Is not object")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _about(document, "not formatted correctly. 'signature_name' key must be a string value.")
    signature = signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise _invalid(f'Serving signature name: "{shortened(name or DEFAULT_SIGNATURE)}" not found in signature def')
    if not signature.inputs:
        raise _invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if INPUTS in document and INSTANCES in document:
        raise _about(document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
    output_filter = _output_filter(document)
    if INPUTS in document:
        return PredictBody(name, _columns(document[INPUTS], signature), output_filter, row=False)
    if INSTANCES not in document:
        raise _invalid("Missing 'inputs' or 'instances' key")
    instances = document[INSTANCES]
    if not isinstance(instances, list):
        raise _about(document, "Expecting 'instances' to be an list/array")
    if not instances:
        raise _about(document, "No values in 'instances' array")
    return PredictBody(name, _rows(instances, signature), output_filter, row=True)


def _output_filter(document: Mapping[str, Any]) -> Sequence[str]:
    found = document.get("output_filter", [])
    if not isinstance(found, list) or not all(isinstance(alias, str) for alias in found):
        raise _about(document, "not formatted correctly. 'output_filter' key must be a list of output names.")
    return found


def _columns(value: Any, signature: Signature) -> dict[str, Array]:
    specs = signature.inputs
    if not isinstance(value, dict) or (is_base64(value) and "b64" not in specs):
        if len(specs) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per"
                " tensorinfo_map"
            )
        return {alias: _one(value, spec) for alias, spec in specs.items()}
    inputs: dict[str, Array] = {}
    for alias in sorted(specs):
        if alias in value:
            inputs[alias] = _one(value[alias], specs[alias])
        elif alias not in signature.defaults:
            raise _invalid(f"Missing named input: {alias} in 'inputs' object.")
    return inputs


def _rows(instances: list[Any], signature: Signature) -> dict[str, Array]:
    specs = signature.inputs
    lone = next(iter(specs.values())) if len(specs) == 1 else None
    named = _is_named(instances[0], lone)
    if not named and lone is None:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    wanted = set(specs)
    if named and wanted - signature.defaults.keys() <= instances[0].keys() <= wanted:
        # What the first row leaves to the signature's defaults, all rows do.
        wanted = set(instances[0])
    columns = {alias: Column(spec) for alias, spec in specs.items() if alias in wanted}
    for index, item in enumerate(instances):
        if named:
            if not _is_named(item, lone):
                raise _invalid(f"Expecting object but got list at item {index} of input list")
            _add_named(columns, index, item)
        elif _is_named(item, lone):
            raise _invalid(f"Expecting value/list but got object at item {index} of input list")
        else:
            assert lone is not None  # noqa: S101  refused above
            try:
                columns[lone.alias].add(item)
            except ServingError as error:
                raise _invalid(f"Failed to process element: {index} of 'instances' list. Error: {error}") from error
    return {alias: column.rows() for alias, column in columns.items()}


def _is_named(item: Any, lone: TensorSpec | None) -> bool:
    """Whether an instance names its inputs; `{"b64": ...}` alone is a value of the one input."""
    return isinstance(item, dict) and not (lone is not None and is_base64(item) and lone.alias != "b64")


def _add_named(columns: Mapping[str, Column], index: int, item: Mapping[str, Any]) -> None:
    for alias, value in item.items():
        try:
            if alias not in columns:
                raise _invalid(f"JSON object: does not have named input: {shortened(alias)}")
            columns[alias].add(value)
        except ServingError as error:
            raise _invalid(
                f"Failed to process element: {index} key: {shortened(alias)} of 'instances' list. Error: {error}"
            ) from error
    if item.keys() != columns.keys():
        raise _invalid(
            f"Failed to process element: {index} of 'instances' list. JSON object: {show(dict(item))} keys must be"
            f" equal to: {','.join(sorted(columns))}"
        )


def _one(value: Any, spec: TensorSpec) -> Array:
    column = Column(spec)
    column.add(value)
    return column.value()


def _about(value: Any, text: str) -> ServingError:
    return _invalid(f"JSON Value: {show(value)} {text}")


def _invalid(text: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, text)
