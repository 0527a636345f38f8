"""Doors that a server's first answer does not need: each is imported and built by its first request.

They cost some milliseconds of import, which a start from zero must not pay.
"""

from collections.abc import Callable
from typing import Any

from functions.first_load import FirstLoad
from functions.models import Models
from functions.observing.metrics import Metrics
from functions.oip.repository import ConfigRepository
from functions.web.message import Handler, Request, Response


def late_doors(
    models: Models, metrics: Metrics, first_load: FirstLoad, repository: ConfigRepository, timeout: float
) -> dict[str, Handler]:
    """The Open Inference Protocol, the OpenAPI document and the page, by the first segment of their paths.

    Args:
        models: what is served.
        metrics: where requests are counted.
        first_load: what a request waits for while the first models load.
        repository: where models are loaded and unloaded.
        timeout: seconds that an infer call may take.
    """

    def oip() -> Handler:
        from functions.oip.calls import OipModels  # noqa: PLC0415  see above
        from functions.oip.rest import OipRest  # noqa: PLC0415

        seen = OipModels(models.manager, metrics, wait=first_load.wait_for, repository=repository)
        return OipRest(seen, metrics, timeout=timeout).handle

    def openapi() -> Handler:
        from importlib.metadata import version  # noqa: PLC0415

        from functions.rest.openapi import OpenApi  # noqa: PLC0415

        return OpenApi(models.manager, version("zeroserve")).handle

    def page() -> Handler:
        from functions.page import PageDoor  # noqa: PLC0415

        return PageDoor(models.manager).handle

    page_door = _late(page)
    return {"v2": _late(oip), "openapi.json": _late(openapi), "page.json": page_door, "": page_door}


def late_oip_grpc(
    models: Models, metrics: Metrics, first_load: FirstLoad, repository: ConfigRepository
) -> Callable[[Any], tuple[str, ...]]:
    """Adds the Open Inference Protocol's gRPC service to a server, and gives its name."""

    def add(server: Any) -> tuple[str, ...]:
        from functions.oip.calls import OipModels  # noqa: PLC0415
        from functions.oip.grpc_service import SERVICE, OipServicer  # noqa: PLC0415  see above
        from functions.proto import open_inference_pb2_grpc  # noqa: PLC0415

        seen = OipModels(models.manager, metrics, wait=first_load.wait_for, repository=repository)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(OipServicer(seen, metrics), server)
        return (SERVICE,)

    return add


def _late(build: Callable[[], Handler]) -> Handler:
    built: list[Handler] = []

    async def handle(request: Request) -> Response:
        if not built:
            built.append(build())
        return await built[0](request)

    return handle
