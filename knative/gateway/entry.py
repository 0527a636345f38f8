"""The script that finds the model of a request: REST by its path, gRPC by the first bytes of its message. Pure.

gRPC names the model inside the message, so the script reads it there: the first field of every request of
TensorFlow Serving and of the Open Inference Protocol leads to it. A call that is compressed, or a stream, says it in
the metadata `x-zeroserve-model`.

Source: apis/{predict,classification,regression,inference,get_model_metadata,get_model_status,session_service}.proto of
TensorFlow Serving, open_inference_grpc.proto; docs of Envoy's Lua filter.
"""

from collections.abc import Iterable, Mapping
from importlib.resources import files

from knative.gateway.settings import RESERVED_PREFIX, Gateway, service_name
from knative.names import MAX_SERVICE

METHODS: Mapping[str, int] = {
    "/tensorflow.serving.PredictionService/Predict": 2,
    "/tensorflow.serving.PredictionService/Classify": 2,
    "/tensorflow.serving.PredictionService/Regress": 2,
    "/tensorflow.serving.PredictionService/GetModelMetadata": 2,
    "/tensorflow.serving.PredictionService/MultiInference": 3,
    "/tensorflow.serving.SessionService/SessionRun": 2,
    "/tensorflow.serving.ModelService/GetModelStatus": 2,
    "/inference.GRPCInferenceService/ModelInfer": 1,
    "/inference.GRPCInferenceService/ModelMetadata": 1,
    "/inference.GRPCInferenceService/ModelReady": 1,
}
"""Method -> how many messages deep the model's name is, by field 1 of each. What changes a server is not among them."""


def script(gateway: Gateway) -> str:
    """The Lua of the filter, with what it has to know."""
    backends = {service_name(model): address for model, address in gateway.backends.items()}
    config = {
        "domain": _text(f".{gateway.namespace}.svc.{gateway.cluster_domain}"),
        "reserved": _text(RESERVED_PREFIX),
        "max_name": str(MAX_SERVICE),
        "methods": _table((method, str(depth)) for method, depth in METHODS.items()),
        "backends": _table((model, _text(address)) for model, address in sorted(backends.items())),
    }
    if gateway.models:
        config["models"] = _table((service_name(model), "true") for model in sorted(gateway.models))
    fields = ", ".join(f"{name} = {value}" for name, value in config.items())
    return f"local CONFIG = {{ {fields} }}\n{files(__package__).joinpath('entry.lua').read_text()}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "{ " + ", ".join(f"[{_text(key)}] = {value}" for key, value in rows) + " }"


def _text(text: str) -> str:
    # All that comes here was checked by `Gateway`: names, addresses, paths; none has a quote or a backslash.
    assert '"' not in text, text  # noqa: S101
    assert "\\" not in text, text  # noqa: S101
    return f'"{text}"'
