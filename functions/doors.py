"""The doors of one server: which handler answers which paths."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from functions.asgi import Doors
from functions.cloud_event import CloudEvents, EventRules
from functions.config import Settings
from functions.first_load import FirstLoad
from functions.late_doors import late_doors, late_oip_grpc
from functions.models import Models
from functions.observing.metrics import Metrics
from functions.observing.monitoring import Monitoring, monitoring_path
from functions.oip.repository import ConfigRepository
from functions.readiness import Readiness
from functions.rest.api import RestApi
from functions.rest.image_request import ImageLimits
from functions.rest.verbs import RestVerbs
from functions.rpc.door import GrpcServices, grpc_door
from functions.web.body_budget import BodyBudget
from functions.web.message import Handler
from loader.storage import read_object


def open_doors(
    settings: Settings,
    models: Models,
    metrics: Metrics,
    loaded: "Future[None]",
    readiness: Readiness,
    *,
    budget: BodyBudget,
) -> Doors:
    """Builds every door of the server.

    Raises:
        ServingError: a file that the settings name cannot be read or parsed.
    """
    first_load = FirstLoad(models.manager, loaded)
    timeout = settings.rest_api_timeout_in_ms / 1000
    rest = RestApi(
        models.manager,
        first_load,
        RestVerbs(metrics, ImageLimits(settings.max_image_pixels, settings.max_images)).by_name(),
        metrics,
        timeout=timeout,
        cors=settings.rest_api_enable_cors_support,
    )
    routing = None
    if settings.peer_url:
        from functions.routing.revision import RevisionRouting  # noqa: PLC0415  only on a cluster

        routing = RevisionRouting(settings, metrics)
        readiness.on_drain(routing.drain)
    events = CloudEvents(
        EventRules(
            settings.cloud_event_reply_type,
            settings.cloud_event_source,
            tuple(one for one in settings.cloud_event_reference_prefixes.split(",") if one),
            settings.max_reference_bytes,
        ),
        routing.before(rest.handle) if routing else rest.handle,
        models.manager.names,
        partial(read_object, driver=settings.storage_driver),
    )
    repository = ConfigRepository(models.source, models.manager, models.unloaded)
    handlers: dict[str, Handler] = {"v1": rest.handle, **late_doors(models, metrics, first_load, repository, timeout)}
    if routing:
        handlers |= {door: routing.before(handlers[door]) for door in ("v1", "v2")}
    path = monitoring_path(settings.monitoring_config_file)
    if path:
        handlers[path[1:].partition("/")[0].lower()] = Monitoring(path, models.samples).handle
    grpc = GrpcServices(
        models.manager,
        models.source,
        first_load,
        metrics,
        readiness,
        late_oip_grpc(models, metrics, first_load, repository),
        tensor_content=settings.enable_serialization_as_tensor_content,
        reload=_reload_sink(settings),
        before=routing.server if routing else lambda server: server,
    )
    return Doors(handlers, grpc=grpc_door(grpc, budget, settings.grpc_channel_arguments), event=events.handle)


def _reload_sink(settings: Settings) -> Callable[[Any], None] | None:
    if not settings.reload_sink:
        return None
    from functions.config import own_service  # noqa: PLC0415  only on a cluster
    from functions.reload_sink import reload_sink  # noqa: PLC0415

    return reload_sink(settings.reload_sink, own_service())
