"""The volumes of a predict pod: cache, routes, key, temporary files. Pure.

Source: knative/serving pkg/apis/serving/fieldmask.go: secrets, ConfigMaps and emptyDir always; volume claims and
hostPath only where the cluster's config-features allow them.
"""

import re
from typing import Any

from knative.error import DeployError
from knative.names import config_map_name

_SIZE = re.compile(r"[0-9]{1,15}(k|M|G|T|Ki|Mi|Gi|Ti)?")


def cache_volume(cache: str) -> dict[str, Any]:
    """The source of the cache's volume.

    Args:
        cache: `emptyDir`, `emptyDir:SIZE`, `memory:SIZE`, `pvc:CLAIM` or `hostPath:/FOLDER`.

    Raises:
        DeployError: anything else.
    """
    kind, _, argument = cache.partition(":")
    match kind:
        case "emptyDir" if not argument or _SIZE.fullmatch(argument):
            return {"emptyDir": {"sizeLimit": argument} if argument else {}}
        case "memory" if _SIZE.fullmatch(argument):
            return {"emptyDir": {"medium": "Memory", "sizeLimit": argument}}
        case "pvc" if argument:
            return {"persistentVolumeClaim": {"claimName": argument}}
        case "hostPath" if argument.startswith("/"):
            return {"hostPath": {"path": argument, "type": "DirectoryOrCreate"}}
    raise DeployError(f"cache {cache!r}: wanted emptyDir, emptyDir:SIZE, memory:SIZE, pvc:CLAIM or hostPath:/FOLDER")


def routes_volume(service: str, key: str) -> dict[str, Any]:
    """The source of the routes' volume: one key of the service's ConfigMap, as a file of that name."""
    # Optional: a pod starts before the first traffic is written. The declaration beside it is nobody's business there.
    items = [{"key": key, "path": key}]
    return {"configMap": {"name": config_map_name(service), "optional": True, "items": items}}
