"""Names of revisions and tags: pure, deterministic, always valid in DNS.

Source: knative/serving pkg/apis/serving/v1 (revision_validation.go, route_validation.go): a revision's name is a
DNS-1035 label that starts with the service's name and a hyphen; a tag is a DNS-1035 label, unique in the service, and
`<tag>-<service>` must be one too.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from knative.error import DeployError

MAX_LABEL = 63
"""Characters of a DNS label."""

DIGEST = 8
"""Hexadecimal digits that tell revisions of one version apart."""

MAX_VERSION_DIGITS = 19
"""Of a version, which is an int64."""

MAX_SERVICE = MAX_LABEL - len("-v") - MAX_VERSION_DIGITS - len("-") - DIGEST
"""Characters of a service's name such that every version's revision has a valid name."""

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_REVISION = re.compile(r"-v([0-9]{1,19})-[0-9a-f]{8}")
_LABEL = re.compile(r"[A-Za-z0-9_]+")
_OWN_TAG = re.compile(r"v[0-9]+(-[0-9a-f]{8})?")
_VERSION_TAG = re.compile(r"v[0-9]+")


def checked_service(name: str) -> str:
    """`name`, if a service can have it.

    Raises:
        DeployError: it cannot.
    """
    if len(name) > MAX_SERVICE or not _DNS_1035.fullmatch(name):
        raise DeployError(
            f"{name!r} cannot name a service: wanted a letter, then letters, digits and hyphens, all lower case, "
            f"{MAX_SERVICE} characters at most"
        )
    return name


def service_of_model(model: str) -> str:
    """The service of a model that a config names: lower case, hyphens for underscores.

    Raises:
        DeployError: it cannot name one even so.
    """
    return checked_service(model.lower().replace("_", "-"))


def checked_namespace(name: str) -> str:
    """`name`, if a namespace can have it.

    Raises:
        DeployError: it cannot.
    """
    if len(name) > MAX_LABEL or not _DNS_1123.fullmatch(name):
        raise DeployError(f"{name!r} cannot name a namespace: wanted letters, digits and hyphens, all lower case")
    return name


def config_map_name(service: str) -> str:
    """Of the ConfigMap that holds a service's declaration and routes."""
    return f"zeroserve-{service}"


def digest(content: Any) -> str:
    """`DIGEST` hexadecimal digits of a JSON value; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def revision_name(service: str, version: int, content: Any) -> str:
    """`<service>-v<version>-<digest8>`: the same content gives the same name, so a second deploy changes nothing."""
    return f"{checked_service(service)}-v{version}-{digest(content)}"


def version_of(service: str, revision: str) -> int | None:
    """The version that a revision name of ours says; None for a name that somebody else gave."""
    match = _REVISION.fullmatch(revision.removeprefix(service)) if revision.startswith(service) else None
    return int(match[1]) if match else None


def version_tag(version: int) -> str:
    """The tag that addresses a version: `v7`."""
    return f"v{version}"


def revision_tag(service: str, revision: str) -> str:
    """The tag of a revision of ours whose version is addressed by another one: `v7-1a2b3c4d`."""
    return revision.removeprefix(f"{service}-")


def is_own_tag(tag: str) -> bool:
    """Whether a tag is that of a version or a revision, and no label's."""
    return _OWN_TAG.fullmatch(tag) is not None


def label_tag(label: str, service: str) -> str:
    """The tag of a version label: lower case, hyphens for underscores.

    Raises:
        DeployError: not a label of TensorFlow Serving, not a tag even then, or one that a version has already.
    """
    tag = label.lower().replace("_", "-")
    wanted = "letters, digits and underscores that begin with a letter and end with a letter or digit"
    if not _LABEL.fullmatch(label) or not _DNS_1035.fullmatch(tag):
        raise DeployError(f"label {label!r} cannot be a tag: wanted {wanted}")
    if _VERSION_TAG.fullmatch(tag):
        raise DeployError(f"label {label!r} is how version {tag[1:]} is addressed: wanted another word")
    if len(tag) + 1 + len(service) > MAX_LABEL:
        raise DeployError(
            f"label {label!r}: '{tag}-{service}' is longer than the {MAX_LABEL} characters of a host name"
        )
    return tag


def label_tags(labels: Iterable[str], service: str) -> Mapping[str, str]:
    """Label -> tag.

    Raises:
        DeployError: one that cannot be a tag, or two that would be the same.
    """
    tags: dict[str, str] = {}
    for label in labels:
        tag = label_tag(label, service)
        for other, taken in tags.items():
            if taken == tag:
                raise DeployError(f"labels {other!r} and {label!r} are the same tag {tag!r}: rename one")
        tags[label] = tag
    return tags
