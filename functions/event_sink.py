"""Where a command's events go: what it is told, else what Knative tells it by its environment."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from events.watch_sink import Sink
from functions.config import sink_environment

OIDC_TOKEN = Path("/oidc/token")
"""Where a SinkBinding of a cluster with `authentication-oidc` puts the token for its sink."""

_NAME = re.compile("[a-z0-9]{1,100}")
"""Of an attribute. Source: CloudEvents 1.0, "Naming Conventions"."""


def event_sink(url: str, token_file: str = "") -> Sink:
    """The sink of `--sink` and `--token-file`, else of `K_SINK`.

    Raises:
        ValueError: there is none, or it makes no sense.
    """
    environment = sink_environment()
    url = url or environment.get("K_SINK", "")
    if not url:
        raise ValueError("no sink: --sink=URL, or run it as a ContainerSource, which sets K_SINK")
    token = Path(token_file) if token_file else OIDC_TOKEN if OIDC_TOKEN.exists() else None
    return Sink(url, sink_extensions(environment), token, environment.get("K_CA_CERTS", ""))


def sink_extensions(environment: Mapping[str, str]) -> dict[str, str]:
    """The attributes that `K_CE_OVERRIDES` gives every event; none where it is not set.

    Raises:
        ValueError: it says nothing that can be read, or names that are none.
    """
    text = environment.get("K_CE_OVERRIDES") or "{}"
    try:
        found = {str(name): str(value) for name, value in (json.loads(text).get("extensions") or {}).items()}
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"K_CE_OVERRIDES={text!r:.200}: wanted JSON with extensions") from None
    for name in found:
        if not _NAME.fullmatch(name):
            raise ValueError(f"K_CE_OVERRIDES: {name!r:.80} is no name of an attribute: wanted a-z and 0-9")
    return found
