"""The universal client: any model, on the stock TensorFlow Serving or on this server, over gRPC, REST or the Open
Inference Protocol.

    with Client("localhost:8500") as client:
        print(client.predict("half_plus_two", [1.0, 2.0, 5.0]).outputs["y"])

It reads the model's signature once, casts what it is given to the signature's types and shapes, and sends that.
TensorFlow's Python runtime is never imported.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from functions.client.connections import RetryLaterError
from functions.client.signature_choice import choose
from functions.client.transport import Prediction, Transport
from functions.client.values import inputs_from_json
from loader.servable import ModelSpec
from loader.signature import Signature
from loader.status import Code, ServingError

DEFAULT_TIMEOUT = 60.0
"""Seconds for one call with all its tries; a model that wakes from zero takes a while."""

DEFAULT_ATTEMPTS = 4
FIRST_PAUSE = 0.1
MAX_PAUSE = 5.0
"""Seconds before the second try; doubled for each further one up to MAX_PAUSE, each time between half and all of it."""

_SAFE_TO_REPEAT = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
_STALE_SIGNATURE = (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.NOT_FOUND)
_T = TypeVar("_T")


class Client:
    """Asks one server. Safe from any thread.

    A try is repeated only when that can do no harm and may help: the server could not be reached or said it is
    unavailable, or it refused for want of room; a prediction changes nothing on the server. A request that is wrong,
    or whose time is over, is never repeated, and all tries together keep to the one timeout.

    Args:
        target: `host:port` (gRPC), `grpc://`, `grpcs://`, `http://` or `https://` before it.
        protocol: "grpc", "rest" or "oip" (Open Inference Protocol over HTTP); None chooses by the target.
        timeout: seconds for one call with all its tries.
        attempts: how often one call is tried, 1 or more.
        headers: sent with every request (gRPC metadata, HTTP headers), `{"authorization": "Bearer ..."}`.
        root_certificates: PEM of the authorities to trust with grpcs:// and https://; None for the system's.
    """

    def __init__(
        self,
        target: str,
        *,
        protocol: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        attempts: int = DEFAULT_ATTEMPTS,
        headers: Mapping[str, str] | None = None,
        root_certificates: bytes | None = None,
    ) -> None:
        if attempts < 1 or not timeout > 0:
            raise ServingError(Code.INVALID_ARGUMENT, f"attempts {attempts} and timeout {timeout} must be above 0")
        self._timeout, self._attempts = timeout, attempts
        self._transport = _transport(target, protocol, dict(headers or {}), root_certificates)
        self._known: dict[tuple[ModelSpec, str], Signature] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the connections; the client cannot be used any more."""
        self._transport.close()

    def signature(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        timeout: float | None = None,
    ) -> Signature:
        """What a model takes and gives, remembered after the first time.

        Raises:
            ServingError: NOT_FOUND for an unknown model, INVALID_ARGUMENT for an unknown signature.
        """
        return self._signature(ModelSpec(model, version, label), signature, self._deadline(timeout))

    def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction:
        """One prediction.

        Args:
            model: its name.
            inputs: arrays or nested lists by input name; the bare value where there is one input; or a body as
                TensorFlow Serving's REST API takes it (`{"instances": [...]}`, `{"inputs": ...}`).
            version: a version, or
            label: a version's label; with neither the latest version answers.
            signature: its name; empty for `serving_default`, or the model's only one.
            outputs: names of those wanted; empty for all.
            timeout: seconds for this call with all its tries; None for the client's.
            headers: sent with this request, beside the client's own.

        Raises:
            ServingError: the server's code and text; UNAVAILABLE when it could not be reached; DEADLINE_EXCEEDED;
                INVALID_ARGUMENT for inputs that do not fit the signature, before anything is sent.
        """
        spec, deadline = ModelSpec(model, version, label), self._deadline(timeout)
        found = self._signature(spec, signature, deadline)
        tensors = inputs_from_json(found, inputs)
        told = {name.lower(): value for name, value in (headers or {}).items()}
        try:
            return self._tried(
                lambda: self._transport.predict(spec, found, tensors, outputs, deadline, headers=told), deadline
            )
        except ServingError as error:
            if error.code in _STALE_SIGNATURE:
                # A new version may have other signatures: read them again next time.
                self._known.pop((spec, signature), None)
            raise

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)

    def _signature(self, spec: ModelSpec, name: str, deadline: float) -> Signature:
        found = self._known.get((spec, name))
        if found is None:
            signatures = self._tried(lambda: self._transport.signatures(spec, name, deadline), deadline)
            found = self._known[spec, name] = choose(signatures, name)
        return found

    def _tried(self, call: Callable[[], _T], deadline: float) -> _T:
        for attempt in range(1, self._attempts + 1):
            try:
                return call()
            except ServingError as error:
                if error.code not in _SAFE_TO_REPEAT or attempt == self._attempts:
                    raise
                pause = min(MAX_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311  no secret
                if isinstance(error, RetryLaterError):
                    pause = max(pause, error.seconds)
                if time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")


def _transport(
    target: str, protocol: str | None, headers: Mapping[str, str], root_certificates: bytes | None
) -> Transport:
    url = urlsplit(target if "://" in target else f"//{target}")
    web = url.scheme in ("http", "https")
    if url.scheme not in ("", "grpc", "grpcs", "http", "https"):
        raise ServingError(Code.INVALID_ARGUMENT, f"target {target!r}: wanted host:port, grpc(s):// or http(s)://")
    chosen = protocol or ("rest" if web else "grpc")
    if chosen == "grpc":
        from functions.client.grpc_transport import GrpcTransport  # noqa: PLC0415  a REST caller does not pay for grpcio

        return GrpcTransport(url.netloc, headers, url.scheme in ("grpcs", "https"), root_certificates)
    if chosen not in ("rest", "oip"):
        raise ServingError(Code.INVALID_ARGUMENT, f"protocol {chosen!r}: wanted grpc, rest or oip")
    from functions.client.rest_transport import OipTransport, RestTransport, connections  # noqa: PLC0415  as above

    secure = "https" if url.scheme in ("grpcs", "https") else "http"
    opened = connections(url._replace(scheme=secure), headers, root_certificates)
    return RestTransport(opened) if chosen == "rest" else OipTransport(opened)
