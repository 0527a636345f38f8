"""The routes of a service: labels, arms and the key that holds a user to one of them, and the shadow. Pure.

{"labels": {"canary": "v2"}, "sticky": {"header": "x-user-id"},
 "arms": [{"tag": "v1", "percent": 80}, {"tag": "v2", "percent": 20}],
 "shadow": {"tag": "v3", "percent": 10, "rtol": 1e-3, "atol": 1e-5}}
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from functions.routing.tag import is_tag
from loader.status import Code, ServingError

MAX_ARMS = 100
"""Arms that may share the traffic: Knative's percents are whole numbers."""

MAX_NAME = 256
"""Characters of the header, the cookie or the JSON path that holds the user's key."""

KEY_KINDS = ("header", "cookie", "json")


@dataclass(frozen=True, slots=True)
class UserKey:
    """Where a request says whose it is.

    Attributes:
        kind: `header`, `cookie` or `json`.
        name: of the header (small letters) or the cookie; for JSON the keys from the top of the body, `user.id`.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a split; `weight` is 0 or more, and means something beside the other arms' only."""

    tag: str
    weight: float


@dataclass(frozen=True, slots=True)
class ShadowRule:
    """What is copied where.

    Attributes:
        tag: who gets the copy.
        percent: 0 to 100, of the requests that name no version.
        rtol, atol: two numbers are the same when `|there - here| <= atol + rtol * |here|`.
    """

    tag: str
    percent: float
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class Routes:
    """What the file says; empty where there is none.

    Attributes:
        labels: label -> tag.
    """

    key: UserKey | None = None
    arms: tuple[Arm, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    shadow: ShadowRule | None = None


def parse_routes(text: bytes) -> Routes:
    """Reads the file. Keys that are not known are left alone: an older server may read a newer file.

    Raises:
        ServingError: INVALID_ARGUMENT, saying what is wrong.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong("", f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _wrong("", "wanted an object")
    labels = document.get("labels") or {}
    if not isinstance(labels, dict):
        raise _wrong("labels", "wanted an object of label and tag")
    return Routes(
        _key(document.get("sticky")),
        _arms(document.get("arms") or []),
        {label: _tag(tag, f"labels.{label}") for label, tag in labels.items()},
        _shadow(document.get("shadow")),
    )


def _key(value: Any) -> UserKey | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= set(KEY_KINDS):
        raise _wrong("sticky", 'wanted {"header": NAME}, {"cookie": NAME} or {"json": PATH}')
    (kind, name) = next(iter(value.items()))
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise _wrong(f"sticky.{kind}", f"wanted a name of 1 to {MAX_NAME} characters")
    if kind == "json" and not all(name.split(".")):
        raise _wrong("sticky.json", "wanted keys with dots between them, user.id")
    return UserKey(kind, name.lower() if kind == "header" else name)


def _arms(value: Any) -> tuple[Arm, ...]:
    if not isinstance(value, list) or len(value) > MAX_ARMS:
        raise _wrong("arms", f"wanted a list of at most {MAX_ARMS}")
    arms = []
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise _wrong(f"arms[{index}]", "wanted an object of tag and percent")
        tag = _tag(entry.get("tag"), f"arms[{index}].tag")
        arms.append(Arm(tag, _number(entry.get("percent"), f"arms[{index}].percent", 100)))
    if len({arm.tag for arm in arms}) != len(arms):
        raise _wrong("arms", "a tag comes twice")
    if arms and not any(arm.weight for arm in arms):
        raise _wrong("arms", "all percents are 0")
    return tuple(arms)


def _shadow(value: Any) -> ShadowRule | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _wrong("shadow", "wanted an object of tag and percent")
    return ShadowRule(
        _tag(value.get("tag"), "shadow.tag"),
        _number(value.get("percent", 100), "shadow.percent", 100),
        _number(value.get("rtol", 1e-3), "shadow.rtol", math.inf),
        _number(value.get("atol", 1e-5), "shadow.atol", math.inf),
    )


def _tag(value: Any, where: str) -> str:
    if not isinstance(value, str) or not is_tag(value):
        raise _wrong(where, f"found {str(value)[:80]!r}, wanted a tag: small letters, digits and hyphens")
    return value


def _number(value: Any, where: str, highest: float) -> float:
    if type(value) not in (int, float) or not 0 <= value <= highest or not math.isfinite(value):
        raise _wrong(where, f"found {str(value)[:80]!r}, wanted a number from 0 to {highest:g}")
    return float(value)


def _wrong(where: str, what: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"routes: {where}: {what}" if where else f"routes: {what}")
