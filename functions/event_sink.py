"""Where a command's events go: what it is told, else what Knative tells it by its environment."""

import json
from pathlib import Path

from events.watch_sink import Sink
from functions.config import sink_environment

OIDC_TOKEN = Path("/oidc/token")
"""Where a SinkBinding of a cluster with `authentication-oidc` puts the token for its sink."""


def event_sink(url: str, token_file: str = "") -> Sink:
    """The sink of `--sink` and `--token-file`, else of `K_SINK`.

    Raises:
        ValueError: there is none, or it makes no sense.
    """
    environment = sink_environment()
    url = url or environment.get("K_SINK", "")
    if not url:
        raise ValueError("no sink: --sink=URL, or run it as a ContainerSource, which sets K_SINK")
    try:
        overrides = json.loads(environment.get("K_CE_OVERRIDES") or "{}").get("extensions") or {}
        extensions = {str(name): str(value) for name, value in overrides.items()}
    except (ValueError, AttributeError):
        raise ValueError(f"K_CE_OVERRIDES={environment['K_CE_OVERRIDES']!r}: wanted JSON with extensions") from None
    token = Path(token_file) if token_file else OIDC_TOKEN if OIDC_TOKEN.exists() else None
    return Sink(url, extensions, token, environment.get("K_CA_CERTS", ""))
