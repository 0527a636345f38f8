"""`grpc.health.v1.Health`: whether the server, a service or a model can be sent requests.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md; tensorflow_serving/model_servers/server.cc
(the names `ModelService` and `PredictionService`). That a model's name is a service too is ours.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loader.manager import ServableManager
from loader.servable import ModelSpec
from loader.status import ServingError

WATCH_SECONDS = 0.25
"""How often a watched state is looked at."""

SERVICES = frozenset(
    {
        "",
        "ModelService",
        "PredictionService",
        "grpc.health.v1.Health",
        "inference.GRPCInferenceService",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    }
)
"""Names that stand for the server as a whole."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated code has no types
    """Answers health checks. One event loop owns it.

    Args:
        manager: the models.
        ready: whether the server as a whole can be sent requests.
    """

    def __init__(self, manager: ServableManager, ready: Callable[[], bool]) -> None:
        self._manager = manager
        self._ready = ready

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  names are the service's
        """The state now; NOT_FOUND for a name that is neither a service nor a model."""
        state = self._state(request.service)
        if state == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service or model {request.service!r}")
        return health_pb2.HealthCheckResponse(status=state)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The state now and whenever it changes, until the caller goes."""
        del context
        told = None
        while True:
            state = self._state(request.service)
            if state != told:
                told = state
                yield health_pb2.HealthCheckResponse(status=state)
            await asyncio.sleep(WATCH_SECONDS)

    def _state(self, service: str) -> int:
        if service in SERVICES:
            return int(_SERVING if self._ready() else _NOT_SERVING)
        try:
            self._manager.handle(ModelSpec(service)).release()
        except ServingError:
            return int(_NOT_SERVING if service in self._manager.names() else _UNKNOWN)
        return int(_SERVING)
