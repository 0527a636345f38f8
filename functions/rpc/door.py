"""The gRPC door: which services answer, and when their code is imported.

grpcio and the generated messages cost some 60 ms, which a start from zero for REST must not pay: the first gRPC call
does, in a thread, while the models load as a rule.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functions.first_load import FirstLoad
from functions.observing.metrics import Metrics
from functions.readiness import Readiness
from functions.web.body_budget import BodyBudget
from functions.web.service import AsgiApplication, Receive, Scope, Send
from loader.manager import ServableManager
from loader.source import StorageSource
from loader.status import Code, ServingError

if TYPE_CHECKING:
    from functions.rpc.asgi import GrpcApplication


@dataclass(frozen=True, slots=True)
class GrpcServices:
    """What the gRPC services stand on.

    Attributes:
        tensor_content: outputs as packed bytes (`--enable_serialization_as_tensor_content`).
        more: adds further services to a server, and gives their full names.
        reload: takes reloads in our place (`--reload_sink`); None where we reload ourselves.
        before: what stands before the services of models: a server to add them to, made of the one that answers.
    """

    manager: ServableManager
    source: StorageSource
    first_load: FirstLoad
    metrics: Metrics
    readiness: Readiness
    more: Callable[[Any], tuple[str, ...]]
    tensor_content: bool = False
    reload: Callable[[Any], None] | None = None
    before: Callable[[Any], Any] = lambda server: server

    def add_to(self, server: Any) -> None:
        """Adds all services to a `grpc.aio` server, or to ours."""
        import loader.protos  # noqa: PLC0415  see the module's docstring, for all imports here

        assert loader.protos  # noqa: S101  before the messages
        from grpc_health.v1 import health_pb2_grpc  # noqa: PLC0415
        from tensorflow_serving.apis import (  # noqa: PLC0415
            model_service_pb2,
            model_service_pb2_grpc,
            prediction_service_pb2,
            prediction_service_pb2_grpc,
        )

        from functions.rpc.health import HealthServicer  # noqa: PLC0415
        from functions.rpc.model import ModelServicer  # noqa: PLC0415
        from functions.rpc.prediction import PredictionServicer  # noqa: PLC0415
        from functions.rpc.reflection import add_reflection  # noqa: PLC0415

        routed = self.before(server)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(self.manager, self.first_load, self.metrics, tensor_content=self.tensor_content), routed
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(self.manager, self.source, self.metrics, self.reload), routed
        )
        health_pb2_grpc.add_HealthServicer_to_server(
            HealthServicer(self.manager, lambda: not self.readiness.reasons()), server
        )
        names = self.more(routed)
        add_reflection(
            server,
            (
                # Of these two the generated servicers know no descriptor, which reflection shows.
                prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
                model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
                "grpc.health.v1.Health",
                *names,
            ),
        )


def grpc_door(services: GrpcServices, budget: BodyBudget, channel_arguments: str = "") -> AsgiApplication:
    """The ASGI application for gRPC requests; the first one builds it.

    Args:
        budget: what all requests together may hold.
        channel_arguments: `--grpc_channel_arguments`, see `message_limits`.

    Raises:
        ServingError: INVALID_ARGUMENT for arguments that are none.
    """
    limits = message_limits(channel_arguments)

    def build() -> "GrpcApplication":
        from functions.rpc.asgi import GrpcApplication  # noqa: PLC0415

        application = GrpcApplication(**limits, budget=budget)
        services.add_to(application)
        return application

    building: asyncio.Future[GrpcApplication] | None = None
    built: list[GrpcApplication] = []

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal building
        if not built:
            if building is None:
                building = asyncio.ensure_future(asyncio.to_thread(build))
            built[:] = [await asyncio.shield(building)]
        await built[0](scope, receive, send)

    return door


_LIMITS = {
    "grpc.max_receive_message_length": "max_receive_bytes",
    "grpc.max_send_message_length": "max_send_bytes",
}


def message_limits(channel_arguments: str) -> dict[str, int]:
    """The message limits among `--grpc_channel_arguments` (`name=value,name=value`), in bytes; -1 is no limit.

    Names of other things are taken and ignored: they tune a library that is not here.

    Raises:
        ServingError: INVALID_ARGUMENT for what is no such list, or a limit that is no number.
    """
    limits: dict[str, int] = {}
    for pair in filter(None, channel_arguments.split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"--grpc_channel_arguments: found {pair!r}, wanted name=value,name=value"
            )
        argument = _LIMITS.get(name.strip())
        if argument is None:
            continue
        try:
            number = int(value)
        except ValueError:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"--grpc_channel_arguments: {name} is {value!r}, wanted a number of bytes"
            ) from None
        if number >= 0:
            limits[argument] = number
    return limits
