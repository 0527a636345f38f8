"""What a service's pods need to know about each other: arms, labels, sticky key and shadow, from the traffic. Pure.

The text lies beside the declaration in the service's ConfigMap and is mounted into every pod; kubelet replaces it
within a minute and no revision changes. Its reader is functions/routing/table.py (what answers predictions does not
import this; a test holds the two together).
"""

import json
from typing import Any

from knative.declaration import Declaration
from knative.names import label_tags, revision_tag, version_of, version_tag
from knative.traffic import Traffic, shares

ROUTES_MANAGER = "zeroserve-routes"
"""Field manager of the routes in the ConfigMap; the declaration beside them has another."""


def routes(service: str, traffic: Traffic, declaration: Declaration | None) -> dict[str, Any]:
    """The routes that belong to a traffic block.

    Args:
        service: its name.
        traffic: the block that is applied, in normal order.
        declaration: says the sticky key, the names of labels and the shadow; without it there are none.
    """
    tags = {target.tag: target.revision for target in traffic if target.tag}
    labels = label_tags(declaration.labels, service) if declaration else {}
    return {
        "sticky": {declaration.sticky.kind: declaration.sticky.name} if declaration and declaration.sticky else None,
        "arms": [
            {"tag": tag, "percent": percent}
            for revision, percent in sorted(shares(traffic).items())
            if (tag := own_tag(service, revision, tags))
        ],
        "labels": {
            label: own
            for label, tag in sorted(labels.items())
            if tag in tags and (own := own_tag(service, tags[tag], tags))
        },
        "shadow": _shadow(declaration, tags) if declaration else None,
    }


def routes_text(service: str, traffic: Traffic, declaration: Declaration | None) -> str:
    """The same as JSON with sorted keys."""
    return json.dumps(routes(service, traffic, declaration), sort_keys=True)


def own_tag(service: str, revision: str, tags: dict[str, str]) -> str:
    """The tag by which a revision is addressed: its version's, or its own; empty where neither leads to it."""
    version = version_of(service, revision)
    if version is None:
        return ""
    return next(
        (tag for tag in (version_tag(version), revision_tag(service, revision)) if tags.get(tag) == revision), ""
    )


def _shadow(declaration: Declaration, tags: dict[str, str]) -> dict[str, Any] | None:
    shadow = declaration.shadow
    if shadow is None or version_tag(shadow.version) not in tags:
        return None
    return {
        "tag": version_tag(shadow.version),
        "percent": shadow.percent,
        "rtol": shadow.rtol,
        "atol": shadow.atol,
    }
