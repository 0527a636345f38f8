"""The door for Prometheus, on the same port as everything else.

On by default at the stock server's path (the stock server needs a config file for it): a function has one port, and
a sample costs a microsecond. `prometheus_config { enable: false }` in the config file turns it off.

Source: tensorflow_serving/config/monitoring_config.proto, model_servers/http_server.cc.
"""

import asyncio
from collections.abc import Callable

from functions.observing.metrics import DEFAULT_PATH
from functions.observing.metrics_text import Samples, text
from functions.session_settings import read_text_proto
from functions.web.message import TEXT_HEADERS, Request, Response
from loader.status import Code, ServingError


def monitoring_path(config_file: str) -> str:
    """Where the metrics are; "" when they are off.

    Raises:
        ServingError: INVALID_ARGUMENT for a config file that cannot be read, or a path that is none.
    """
    if not config_file:
        return DEFAULT_PATH
    from loader.text_message import message_class  # noqa: PLC0415  only with a config file

    message_class("PrometheusConfig", {"enable": "bool", "path": "string"})
    monitoring = message_class("MonitoringConfig", {"prometheus_config": "PrometheusConfig"})
    config = read_text_proto(config_file, monitoring(), "monitoring_config_file").prometheus_config
    if not config.enable:
        return ""
    path = str(config.path or DEFAULT_PATH)
    if not path.startswith("/") or len(path) < 2:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"--monitoring_config_file: path: found {path!r}, wanted one that starts with /"
        )
    return path


class Monitoring:
    """Answers with the metrics at one path, and refuses what comes near it, as the stock server does."""

    def __init__(self, path: str, samples: Callable[[], list[Samples]]) -> None:
        """Args: `samples` gives all families; it may block."""
        self._path = path
        self._samples = samples

    async def handle(self, request: Request) -> Response:
        """The text of all metrics, or 400 for another path or a query."""
        asked = request.path + (f"?{request.query.decode('latin-1')}" if request.query else "")
        if asked != self._path:
            return Response(400, TEXT_HEADERS, f"Unexpected path: {asked}. Should be {self._path}".encode())
        return Response(200, TEXT_HEADERS, text(await asyncio.to_thread(self._samples)))
