"""Why a revision is not ready, in words: its conditions, its pods' states, the model's own message. Pure.

Source: knative/serving pkg/apis/serving/v1/revision_lifecycle.go; Kubernetes' PodStatus.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

READY = "Ready"


def condition(resource: Mapping[str, Any], kind: str = READY) -> tuple[str, str, str]:
    """(status, reason, message) of a condition; status is `True`, `False` or `Unknown`."""
    for entry in resource.get("status", {}).get("conditions") or ():
        if entry.get("type") == kind:
            return entry.get("status", "Unknown"), entry.get("reason", ""), entry.get("message", "")
    return "Unknown", "", ""


def is_current(resource: Mapping[str, Any]) -> bool:
    """Whether the controller has seen what was written last."""
    generation: int = resource.get("metadata", {}).get("generation", 0)
    observed: int = resource.get("status", {}).get("observedGeneration", 0)
    return observed >= generation


def is_ready(resource: Mapping[str, Any]) -> bool:
    """Whether it is ready, and as it was written last."""
    return is_current(resource) and condition(resource)[0] == "True"


def pod_reasons(pod: Mapping[str, Any]) -> list[str]:
    """What keeps a pod from running: image, memory, the last words of its program."""
    status = pod.get("status", {})
    found = [
        f"{entry.get('reason', '')}: {entry.get('message', '')}"
        for entry in status.get("conditions") or ()
        if entry.get("type") == "PodScheduled" and entry.get("status") == "False"
    ]
    for container in status.get("containerStatuses") or ():
        name = container.get("name", "")
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            found.append(f"{name}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
        for ended in (container.get("state", {}).get("terminated"), container.get("lastState", {}).get("terminated")):
            # 0 is a pod that was told to go.
            if ended and ended.get("exitCode"):
                words = (ended.get("message") or "").strip()
                found.append(f"{name}: {ended.get('reason', 'Error')} (exit {ended['exitCode']}) {words}".rstrip())
    return found


def probe_reasons(body: bytes) -> list[str]:
    """What `/readyz` of a pod says it waits for."""
    try:
        reasons: Sequence[str] = json.loads(body).get("reasons", [])
    except (ValueError, AttributeError):
        return []
    return [str(reason) for reason in reasons]


def fatal(reasons: Sequence[str]) -> bool:
    """Whether waiting longer is of no use: the image is not there, or the program ends again and again."""
    signs = (
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CrashLoopBackOff",
        "OOMKilled",
    )
    return any(sign in reason for reason in reasons for sign in signs)
