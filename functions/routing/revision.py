"""Routing of one revision, put together from the settings."""

from typing import TYPE_CHECKING, Any

from functions.config import Settings
from functions.observing.metrics import Metrics
from functions.routing.counts import RoutingCounts
from functions.routing.peer_address import parse_peer_address
from functions.routing.peer_rest import RestPeers
from functions.routing.rest_routing import RestRouting
from functions.routing.router import Router
from functions.routing.routes_file import RoutesFile
from functions.routing.shadow import Shadow
from functions.web.message import Handler

if TYPE_CHECKING:
    from functions.routing.peer_grpc import GrpcPeers


class RevisionRouting:
    """What stands before the doors of a revision. One event loop owns it.

    Raises:
        ServingError: INVALID_ARGUMENT for an address of peers that is none.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        counts = RoutingCounts(metrics)
        address = parse_peer_address(settings.peer_url, settings.peer_gateway)
        file = RoutesFile(settings.routes_file, lambda: counts.broken.add(()))
        self._counts = counts
        self._address = address
        self._router = Router(settings.model_name, settings.model_version, address, file.routes)
        self._shadow = Shadow(file.routes, counts)
        self._rest_peers = RestPeers(address)
        self._grpc_peers: GrpcPeers | None = None
        self._rest = RestRouting(
            self._router, self._rest_peers, self._shadow, counts, timeout=settings.rest_api_timeout_in_ms / 1000
        )

    def before(self, handler: Handler) -> Handler:
        """A REST handler with routing before it."""
        return self._rest.before(handler)

    def server(self, server: Any) -> Any:
        """Where gRPC services are added such that their calls are routed. Imports grpcio."""
        from functions.routing.grpc_routing import GrpcRouting, RoutedServer  # noqa: PLC0415  the first call pays
        from functions.routing.peer_grpc import GrpcPeers  # noqa: PLC0415

        self._grpc_peers = GrpcPeers(self._address)
        return RoutedServer(server, GrpcRouting(self._router, self._grpc_peers, self._shadow, self._counts))

    def drain(self) -> None:
        """The process will end: connections close with the requests in flight, copies are given up."""
        self._shadow.drain()
        self._rest_peers.drain()
        if self._grpc_peers is not None:
            self._grpc_peers.drain()
