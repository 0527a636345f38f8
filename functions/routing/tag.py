"""Tags: the names that a service's revisions are reached by.

Version 7 is `v7`; a label is its tag in small letters with hyphens for underscores. What deploys gives the tags by the
same rules (`knative/names.py`; a test holds the two together): what answers predictions may not import it.

Source: knative/serving pkg/apis/serving/v1 (route_validation.go): a tag is a DNS-1035 label.
"""

import re

MAX_LABEL = 63
"""Characters of a DNS label."""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TAG = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VERSION_TAG = re.compile(r"v[0-9]+")


def version_tag(version: int) -> str:
    """The tag of a version (0 or more): `v7`."""
    return f"v{version}"


def label_tag(label: str) -> str | None:
    """The tag of a version label; None for one that can have none: it is then unknown, not another host's name."""
    if len(label) > MAX_LABEL or not _LABEL.fullmatch(label):
        return None
    tag = label.lower().replace("_", "-")
    return tag if _TAG.fullmatch(tag) and not _VERSION_TAG.fullmatch(tag) else None


def is_tag(text: str) -> bool:
    """Whether `text` can be a tag."""
    return len(text) <= MAX_LABEL and _TAG.fullmatch(text) is not None
