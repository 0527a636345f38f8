"""The universal client over gRPC: `tensorflow.serving.PredictionService`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

import loader.protos
from functions.client.transport import Prediction
from loader.dtypes import Array
from loader.servable import ModelSpec
from loader.signature import Signature, parse_signature
from loader.status import Code, ServingError
from loader.tensor_proto import from_array, to_array

assert loader.protos  # noqa: S101  imported for what it does to `tensorflow`
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2  # noqa: E402
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub  # noqa: E402

_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


class GrpcTransport:
    """One channel to one server. Safe from any thread.

    Args:
        authority: `host:port`.
        headers: metadata of every call; names in small letters.
        secure: TLS.
        root_certificates: PEM of the authorities to trust; None for grpc's own.
    """

    def __init__(
        self, authority: str, headers: Mapping[str, str], secure: bool, root_certificates: bytes | None
    ) -> None:
        if secure:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self._channel = grpc.secure_channel(authority, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(authority, _OPTIONS)
        self._stub = PredictionServiceStub(self._channel)
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())

    def signatures(self, spec: ModelSpec, signature_name: str, deadline: float) -> Mapping[str, Signature]:
        """All signatures of the model, whatever `signature_name` is."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_model_spec(spec), metadata_field=["signature_def"]
        )
        response = self._call(self._stub.GetModelMetadata, request, deadline)
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return {name: parse_signature(name, each.SerializeToString()) for name, each in found.signature_def.items()}

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
        """One `PredictRequest` with packed tensors."""
        request = predict_pb2.PredictRequest(model_spec=_model_spec(spec), output_filter=outputs)
        request.model_spec.signature_name = signature.name
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(from_array(array, content=True))
        response = self._call(self._stub.Predict, request, deadline, headers)
        answered = response.model_spec
        version = answered.version.value if answered.HasField("version") else None
        return Prediction(
            answered.name or spec.name, version, {name: to_array(proto) for name, proto in response.outputs.items()}
        )

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _call(self, method: Any, request: Any, deadline: float, headers: Mapping[str, str] | None = None) -> Any:
        metadata = (*self._metadata, *(headers or {}).items())
        try:
            return method(request, timeout=max(deadline - time.monotonic(), 0.0), metadata=metadata)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            raise ServingError(Code(code.value[0]), details or code.name) from error


def _model_spec(spec: ModelSpec) -> Any:
    message = model_pb2.ModelSpec(name=spec.name)
    if spec.version is not None:
        message.version.value = spec.version
    elif spec.label is not None:
        message.version_label = spec.label
    return message
