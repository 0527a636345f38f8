"""The universal client over HTTP: TensorFlow Serving's REST API, and the Open Inference Protocol with raw tensors."""

import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, quote, urlencode

import numpy as np

from functions.client.connections import HttpConnections
from functions.client.signature_choice import INITIALISER
from functions.client.transport import Prediction
from functions.client.values import cast
from functions.oip.tensors import DATATYPES, from_json, from_raw, to_raw, wire_datatype
from loader import dtypes
from loader.dtypes import Array
from loader.servable import ModelSpec
from loader.signature import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature, TensorSpec
from loader.status import Code, ServingError

_HEADER_LENGTH = "inference-header-content-length"


def connections(url: SplitResult, headers: Mapping[str, str], root_certificates: bytes | None) -> HttpConnections:
    """Connections to a server, trusting `root_certificates` (PEM) if there are any."""
    context = None
    if root_certificates is not None:
        context = ssl.create_default_context(cadata=root_certificates.decode("ascii"))
    return HttpConnections(url, headers, context)


class RestTransport:
    """TensorFlow Serving's REST API. Safe from any thread."""

    def __init__(self, opened: HttpConnections) -> None:
        self._http = opened

    def signatures(self, spec: ModelSpec, signature_name: str, deadline: float) -> Mapping[str, Signature]:
        """All signatures of the model, whatever `signature_name` is."""
        _, body = self._http.call("GET", _v1_path(spec) + "/metadata", None, {}, deadline)
        try:
            listed = json.loads(body)["metadata"]["signature_def"]["signature_def"]
            return {name: _signature(name, each) for name, each in listed.items() if name != INITIALISER}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable("metadata", error) from error

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
        """One columnar request; the stock server has no output filter here, so outputs are chosen afterwards."""
        body = json.dumps(
            {"signature_name": signature.name, "inputs": {name: _json_value(each) for name, each in inputs.items()}}
        ).encode()
        told, content = self._http.call(
            "POST", _v1_path(spec) + ":predict", body, {**headers, "content-type": "application/json"}, deadline
        )
        try:
            found = json.loads(content.decode("utf-8", "surrogateescape"))["outputs"]
            named = {next(iter(signature.outputs)): found} if len(signature.outputs) == 1 else found
            arrays = {name: cast(signature.outputs[name], value) for name, value in named.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable("prediction", error) from error
        version = told.get("x-model-version", "")
        return Prediction(spec.name, int(version) if version.isdigit() else None, _chosen(arrays, outputs))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


class OipTransport:
    """The Open Inference Protocol over HTTP, tensors as raw bytes. Safe from any thread."""

    def __init__(self, opened: HttpConnections) -> None:
        self._http = opened

    def signatures(self, spec: ModelSpec, signature_name: str, deadline: float) -> Mapping[str, Signature]:
        """The one signature that the protocol shows; our server shows the one that `signature_name` names."""
        query = "?" + urlencode({"signature_name": signature_name}) if signature_name else ""
        _, body = self._http.call("GET", _v2_path(spec) + query, None, {}, deadline)
        try:
            found = json.loads(body)
            name = (found.get("properties") or {}).get("signature_name") or DEFAULT_SIGNATURE
            inputs, outputs = ({one["name"]: _oip_spec(one) for one in found[key]} for key in ("inputs", "outputs"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable("metadata", error) from error
        return {name: Signature(name, PREDICT_METHOD, inputs, outputs)}

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
        """One infer call with raw tensors; answers may be raw or JSON."""
        blobs = [to_raw(array) for array in inputs.values()]
        head: dict[str, Any] = {
            "parameters": {"binary_data_output": True},
            "inputs": [
                {
                    "name": name,
                    "datatype": wire_datatype(array, name),
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": len(blob)},
                }
                for (name, array), blob in zip(inputs.items(), blobs, strict=True)
            ],
        }
        if signature.name != DEFAULT_SIGNATURE:
            head["parameters"]["signature_name"] = signature.name
        if outputs:
            head["outputs"] = [{"name": name} for name in outputs]
        text = json.dumps(head).encode()
        told, content = self._http.call(
            "POST",
            _v2_path(spec) + "/infer",
            b"".join((text, *blobs)),
            {**headers, "content-type": "application/octet-stream", _HEADER_LENGTH: str(len(text))},
            deadline,
        )
        try:
            return _oip_prediction(spec, told.get(_HEADER_LENGTH), content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable("prediction", error) from error

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


def _v1_path(spec: ModelSpec) -> str:
    path = "/v1/models/" + quote(spec.name, safe="")
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return path if spec.label is None else f"{path}/labels/{quote(spec.label, safe='')}"


def _v2_path(spec: ModelSpec) -> str:
    path = "/v2/models/" + quote(spec.name, safe="")
    version = spec.label if spec.version is None else str(spec.version)
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _signature(name: str, found: Mapping[str, Any]) -> Signature:
    inputs, outputs = (
        {alias: _spec(alias, info) for alias, info in found.get(key, {}).items()} for key in ("inputs", "outputs")
    )
    return Signature(name, found.get("method_name", ""), inputs, outputs)


def _spec(alias: str, info: Mapping[str, Any]) -> TensorSpec:
    shape = info.get("tensor_shape", {})
    sizes = None if shape.get("unknown_rank") else tuple(int(dim.get("size", 0)) for dim in shape.get("dim", ()))
    dtype = dtypes.of_name(str(info["dtype"]).removeprefix("DT_").lower())
    return TensorSpec(alias, info.get("name", ""), dtype.number, sizes)


def _oip_spec(found: Mapping[str, Any]) -> TensorSpec:
    datatype = str(found["datatype"])
    dtype = DATATYPES.get(datatype) or dtypes.of_name(datatype.removeprefix("DT_").lower())
    return TensorSpec(str(found["name"]), "", dtype.number, tuple(int(size) for size in found["shape"]))


def _json_value(array: Array) -> Any:
    if array.dtype.kind == "O":
        return _encoded(array.tolist())
    return array.tolist() if array.dtype.kind in "biuf" else array.astype(np.float32).tolist()


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(each) for each in value]
    return {"b64": base64.b64encode(value).decode()}


def _chosen(arrays: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
    missing = [name for name in outputs if name not in arrays]
    if missing:
        raise ServingError(Code.INVALID_ARGUMENT, f"no output is named {missing}: found {sorted(arrays)}")
    return {name: arrays[name] for name in outputs} if outputs else arrays


def _oip_prediction(spec: ModelSpec, header_length: str | None, content: bytes) -> Prediction:
    end = len(content) if header_length is None else int(header_length)
    found = json.loads(content[:end])
    raw, at = memoryview(content), end
    arrays: dict[str, Array] = {}
    for output in found["outputs"]:
        name, datatype, shape = str(output["name"]), str(output["datatype"]), [int(size) for size in output["shape"]]
        parameters = output.get("parameters") or {}
        if "binary_data_size" in parameters:
            size = int(parameters["binary_data_size"])
            arrays[name] = from_raw(name, datatype, shape, raw[at : at + size])
            at += size
        else:
            is_base64 = parameters.get("content_type") == "base64"
            arrays[name] = from_json(name, datatype, shape, output["data"], is_base64=is_base64)
    version = str(found.get("model_version") or "")
    return Prediction(str(found.get("model_name") or spec.name), int(version) if version.isdigit() else None, arrays)


def _unreadable(what: str, error: Exception) -> ServingError:
    return ServingError(Code.UNKNOWN, f"the server's {what} cannot be read: {type(error).__name__}: {error}")
