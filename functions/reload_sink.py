"""A reload that a pod is asked for, told to whom it concerns: the deploy function, as `com.zeroserve.model.config.v1`.

A pod serves the one version that its revision was made for. What `HandleReloadConfigRequest` asks for is a change of
what is deployed; so with `--reload_sink` it is sent there instead, and the answer says whether it was taken.

Source: CloudEvents 1.0, structured mode; protobuf's JSON mapping. Its reader is events/config_event.py, which what
answers predictions does not import; a test holds the two together.
"""

import http.client
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from loader.status import Code, ServingError

TYPE = "com.zeroserve.model.config.v1"

SINK_SECONDS = 60.0
"""What the sink may take: a function that scales from zero takes some seconds."""


def reload_event(request: Any, service: str) -> bytes:
    """The event in structured mode.

    Args:
        request: a ReloadConfigRequest.
        service: whose pod was asked; empty outside a cluster.
    """
    from google.protobuf import json_format  # noqa: PLC0415  only a reload needs it

    event = {
        "specversion": "1.0",
        "type": TYPE,
        "source": f"//zeroserve/{service}",
        "id": str(uuid.uuid4()),
        "datacontenttype": "application/json",
        "data": {"config": json_format.MessageToDict(request.config)},
    }
    return json.dumps(event | ({"service": service} if service else {})).encode()


def reload_sink(url: str, service: str) -> Callable[[Any], None]:
    """Sends a ReloadConfigRequest to `url`, and returns once it is taken; blocks.

    The result raises ServingError: INVALID_ARGUMENT where the sink refuses the config, UNAVAILABLE where it does not
    answer.
    """

    def send(request: Any) -> None:
        headers = {"Content-Type": "application/cloudevents+json"}
        asked = urllib.request.Request(url, reload_event(request, service), headers, method="POST")  # noqa: S310  ours
        try:
            with urllib.request.urlopen(asked, timeout=SINK_SECONDS):  # noqa: S310  the operator's own setting
                return
        except urllib.error.HTTPError as error:
            with error:
                words = " ".join(error.read(1000).decode(errors="replace").split())
            code = Code.INVALID_ARGUMENT if error.code in {400, 413} else Code.UNAVAILABLE
            raise ServingError(code, f"the config was not taken by {url}: {error.code} {words}") from None
        except (OSError, http.client.HTTPException) as error:
            raise ServingError(Code.UNAVAILABLE, f"{url} (--reload_sink) does not answer: {error}") from None

    return send
