"""An OpenAPI 3.1 document made from the signatures of the models that are loaded.

Every model has its own paths with its own shapes and types, so that a generated client or a form knows what to send.

Source: https://spec.openapis.org/oas/v3.1.0 (schemas are JSON Schema 2020-12).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from functions.catalog import ModelEntry, VersionEntry, read_catalog
from functions.web.message import JSON_HEADERS, Request, Response, json_error
from loader import dtypes
from loader.manager import ServableManager
from loader.signature import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, Signature, TensorSpec

JSON = "application/json"
Schema = dict[str, Any]

_INTEGERS = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint8": (0, (1 << 8) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}
_FLOATS = {"float": "float", "double": "double", "half": "float", "bfloat16": "float"}
_BASE64: Schema = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}
_ERROR: Schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


class OpenApi:
    """Answers `GET /openapi.json`. Args: the models, and this package's version."""

    def __init__(self, manager: ServableManager, version: str) -> None:
        self._manager = manager
        self._version = version

    async def handle(self, request: Request) -> Response:
        """The document as of now."""
        if request.method not in ("GET", "HEAD"):
            return json_error(405, f"{request.method} {request.path}: wanted GET")
        document = build_document(read_catalog(self._manager), self._version)
        return Response(200, JSON_HEADERS, json.dumps(document, ensure_ascii=False).encode())


def build_document(models: Sequence[ModelEntry], version: str) -> dict[str, Any]:
    """The whole document. Models and versions that are not AVAILABLE have their status path only."""
    paths: dict[str, Any] = {"/v1/models": {"get": _operation("list models", "listModels", {"type": "object"})}}
    for place, model in enumerate(models):
        path = f"/v1/models/{quote(model.name, safe='')}"
        paths[path] = {
            "get": _operation(f"status of {model.name}", f"status{place}", _STATUS, tags=[model.name], missing=True)
        }
        available = [entry for entry in model.versions if entry.signatures]
        for entry in available[:1]:
            paths.update(_version_paths(model, entry, path, f"{place}"))
        for entry in available:
            versioned = f"{path}/versions/{entry.version}"
            paths.update(_version_paths(model, entry, versioned, f"{place}v{entry.version}"))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zeroserve",
            "version": version,
            "description": "Predictions of the TensorFlow models that this server has loaded.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": model.name} for model in models],
        "paths": paths,
    }


def _version_paths(model: ModelEntry, entry: VersionEntry, path: str, key: str) -> dict[str, Any]:
    paths: dict[str, Any] = {
        f"{path}/metadata": {
            "get": _operation(
                f"signatures of {model.name}", f"metadata{key}", {"type": "object"}, tags=[model.name], missing=True
            )
        }
    }
    by_verb: dict[str, list[Signature]] = {"predict": [], "classify": [], "regress": []}
    for name in sorted(entry.signatures):
        signature = entry.signatures[name]
        verb = {CLASSIFY_METHOD: "classify", REGRESS_METHOD: "regress"}.get(signature.method_name)
        by_verb["predict"].append(signature)
        if verb is not None:
            by_verb[verb].append(signature)
    for verb, signatures in by_verb.items():
        if not signatures:
            continue
        bodies = [_predict_body(each) if verb == "predict" else _example_body(each) for each in signatures]
        answers = [_predict_answer(each) for each in signatures] if verb == "predict" else [_RESULTS]
        operation = _operation(
            f"{verb} with version {entry.version} of {model.name}",
            f"{verb}{key}",
            answers[0] if len(answers) == 1 else {"anyOf": answers},
            tags=[model.name],
            missing=True,
        )
        body = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
        operation["responses"]["400"] = _response("the request does not fit the signature", _ERROR)
        paths[f"{path}:{verb}"] = {"post": operation}
    return paths


def _operation(
    summary: str, identity: str, answer: Schema, *, tags: Sequence[str] = (), missing: bool = False
) -> dict[str, Any]:
    responses = {"200": _response("the answer", answer)}
    if missing:
        responses["404"] = _response("no such model or version", _ERROR)
    return {"summary": summary, "operationId": identity, "tags": list(tags), "responses": responses}


def _response(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


_STATUS: Schema = {
    "type": "object",
    "properties": {
        "model_version_status": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "version": {"type": "string"},
                    "state": {"enum": ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]},
                    "status": {"type": "object"},
                },
            },
        }
    },
}
_RESULTS: Schema = {"type": "object", "properties": {"results": {"type": "array"}}, "required": ["results"]}
_FEATURE: Schema = {"type": ["string", "number", "integer", "boolean", "object"]}


def _predict_body(signature: Signature) -> Schema:
    row = _of_specs(signature.inputs, rows=True, optional=signature.defaults)
    whole = _of_specs(signature.inputs, rows=False, optional=signature.defaults)
    name = _signature_name(signature)
    return {
        "type": "object",
        "title": signature.name,
        "properties": {
            "signature_name": name,
            "instances": {"type": "array", "minItems": 1, "items": row},
            "inputs": whole,
        },
        "required": [] if signature.name == DEFAULT_SIGNATURE else ["signature_name"],
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    }


def _example_body(signature: Signature) -> Schema:
    features = {"type": "object", "additionalProperties": {"anyOf": [_FEATURE, {"type": "array", "items": _FEATURE}]}}
    return {
        "type": "object",
        "title": signature.name,
        "properties": {
            "signature_name": _signature_name(signature),
            "context": features,
            "examples": {"type": "array", "minItems": 1, "items": features},
        },
        "required": ["examples"] if signature.name == DEFAULT_SIGNATURE else ["signature_name", "examples"],
    }


def _signature_name(signature: Signature) -> Schema:
    name: Schema = {"const": signature.name}
    if signature.name == DEFAULT_SIGNATURE:
        name["default"] = signature.name
    return name


def _predict_answer(signature: Signature) -> Schema:
    row = _of_specs(signature.outputs, rows=True)
    whole = _of_specs(signature.outputs, rows=False)
    return {
        "type": "object",
        "title": signature.name,
        "oneOf": [
            {"properties": {"predictions": {"type": "array", "items": row}}, "required": ["predictions"]},
            {"properties": {"outputs": whole}, "required": ["outputs"]},
        ],
    }


def _of_specs(specs: Mapping[str, TensorSpec], *, rows: bool, optional: Mapping[str, Any] | None = None) -> Schema:
    """One tensor may stand bare; several, or one if one likes, stand in an object by name."""
    members = {alias: tensor_schema(spec, row=rows) for alias, spec in sorted(specs.items())}
    named: Schema = {
        "type": "object",
        "properties": members,
        "required": [alias for alias in members if alias not in (optional or {})],
        "additionalProperties": False,
    }
    return {"anyOf": [*members.values(), named]} if len(members) == 1 else named


def tensor_schema(spec: TensorSpec, *, row: bool) -> Schema:
    """The schema of one tensor as nested lists; `row` leaves its first dimension, the batch, away."""
    schema = _element(spec.dtype)
    if spec.shape is None:
        return {"anyOf": [schema, {"type": "array"}]}
    for size in reversed(spec.shape[1:] if row else spec.shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _element(number: int) -> Schema:
    name = dtypes.of_number(number).name
    if name in _INTEGERS:
        low, high = _INTEGERS[name]
        return {"type": "integer", "minimum": low, "maximum": high, "x-tensorflow-dtype": name}
    if name == "bool":
        return {"type": "boolean", "x-tensorflow-dtype": name}
    if name == "string":
        return {"anyOf": [{"type": "string"}, _BASE64], "x-tensorflow-dtype": name}
    if name in _FLOATS:
        return {"type": "number", "format": _FLOATS[name], "x-tensorflow-dtype": name}
    return {"x-tensorflow-dtype": name, "description": "JSON cannot carry this type; use gRPC"}
