"""What a user wants of one model: the declaration, kept in the service's ConfigMap. Pure.

It is the only wish that is kept; everything else is read from the cluster. `zeroserve deploy` and `zeroserve declare`
write it, an upload reads it to make the next revision. Reading is strict: a declaration that says something nobody
understands is refused, because obeying half of it would deploy something nobody asked for.
"""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from knative import keys
from knative.error import DeployError
from knative.names import config_map_name, label_tags
from knative.policy import Keep, Policy, Split, parse_policy, policy_text
from knative.service import Deployment

DECLARATION_KEY = "declaration.json"
MAX_BYTES = 1 << 20
"""Of a declaration. Source: a ConfigMap holds 1 MiB."""

STICKY_KINDS = ("header", "cookie", "json")
MAX_STICKY_NAME = 256
OVERWRITTEN = ("refuse", "redeploy")


@dataclass(frozen=True, slots=True)
class Sticky:
    """Where a request says whose it is, so that its user stays on one side of a split.

    Attributes:
        kind: `header`, `cookie` or `json`.
        name: of the header or cookie; for JSON the keys from the top of the body: `user.id`.
    """

    kind: str
    name: str

    def __post_init__(self) -> None:
        right = 0 < len(self.name) <= MAX_STICKY_NAME and self.name.isprintable() and " " not in self.name
        if self.kind not in STICKY_KINDS or not right or (self.kind == "json" and not all(self.name.split("."))):
            raise DeployError(
                f"sticky {f'{self.kind}:{self.name}'!r}: wanted header:x-user-id, cookie:uid or json:user.id"
            )


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets copies of requests; its answers are compared and thrown away.

    Attributes:
        version: its number.
        percent: above 0, 100 at most, of the requests that name no version.
        rtol, atol: two numbers are the same when `|there - here| <= atol + rtol * |here|`.
    """

    version: int
    percent: float = 100.0
    rtol: float = 1e-3
    atol: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100 or self.version < 1:
            raise DeployError(f"shadow {self.version}:{self.percent:g}: wanted VERSION[:PERCENT], such as 3:10")
        if not (0 <= self.rtol < math.inf and 0 <= self.atol < math.inf):
            raise DeployError(f"shadow tolerances {self.rtol}, {self.atol}: wanted numbers from 0")


@dataclass(frozen=True, slots=True)
class Declaration:
    """One model as it is wanted.

    Attributes:
        deployment: what every revision is made from.
        versions: which versions of storage: `latest:N`, `all` or `specific:1,4`.
        labels: label -> version.
        rollout: how a version that is new comes to its traffic.
        overwritten: what happens when files of a version that landed change: `refuse` or `redeploy`.
        gates: what a new version has to pass before it gets traffic; read by what checks it.
        sticky: whose requests stay on one side of a split; None for nobody's.
        shadow: who gets copies; None for nobody.
    """

    deployment: Deployment
    versions: str = "latest:1"
    labels: Mapping[str, int] = field(default_factory=dict)
    rollout: Policy = field(default_factory=Keep)
    overwritten: str = OVERWRITTEN[0]
    gates: Mapping[str, Any] = field(default_factory=dict)
    sticky: Sticky | None = None
    shadow: Shadow | None = None

    def __post_init__(self) -> None:
        label_tags(self.labels, self.deployment.name)
        if isinstance(self.rollout, Split):
            raise DeployError(
                "a split is for versions that exist, and says nothing about the next one: zeroserve split"
            )
        if self.overwritten not in OVERWRITTEN:
            raise DeployError(f"overwritten {self.overwritten!r}: wanted {' or '.join(OVERWRITTEN)}")


def config_map(service: str, namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap of a service with some of its keys: each key has a field manager of its own."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(service),
            "namespace": namespace,
            "labels": {keys.MANAGED_BY: keys.FIELD_MANAGER, keys.SERVICE_LABEL: service},
        },
        "data": dict(data),
    }


def declaration_text(declaration: Declaration) -> str:
    """The declaration as JSON with sorted keys: the same wish is the same text."""
    content = {
        "deployment": asdict(declaration.deployment),
        "versions": declaration.versions,
        "labels": dict(declaration.labels),
        "rollout": policy_text(declaration.rollout),
        "overwritten": declaration.overwritten,
        "gates": dict(declaration.gates),
        "sticky": {declaration.sticky.kind: declaration.sticky.name} if declaration.sticky else None,
        "shadow": _shadow_numbers(declaration.shadow) if declaration.shadow else None,
    }
    return json.dumps(content, indent=1, sort_keys=True)


def parse_declaration(text: str) -> Declaration:
    """What `declaration_text` wrote, or somebody by hand. What is left out has its default.

    Raises:
        DeployError: in one line, what is wrong and where.
    """
    if len(text) > MAX_BYTES:
        raise DeployError(f"declaration: {len(text)} characters, {MAX_BYTES} are allowed")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DeployError(f"declaration: not JSON: {error}") from None
    given = _object(content, "top level", [one.name for one in fields(Declaration)])
    if "deployment" not in given:
        raise DeployError("declaration: wanted deployment, with name, url and image")
    read: dict[str, Any] = {"deployment": _deployment(given["deployment"])}
    for name in ("versions", "overwritten"):
        if name in given:
            read[name] = _typed(given[name], str, name)
    if "rollout" in given:
        read["rollout"] = parse_policy(_typed(given["rollout"], str, "rollout"))
    if "labels" in given:
        entries = _object(given["labels"], "labels")
        read["labels"] = {label: _typed(version, int, f"labels.{label}") for label, version in entries.items()}
    if "gates" in given:
        read["gates"] = _object(given["gates"], "gates")
    if given.get("sticky") is not None:
        read["sticky"] = _sticky(given["sticky"])
    if given.get("shadow") is not None:
        read["shadow"] = _shadow(given["shadow"])
    return Declaration(**read)


def declaration_of(config: Mapping[str, Any] | None) -> Declaration | None:
    """What a ConfigMap declares; None where there is none, or only routes in it.

    Raises:
        DeployError: it cannot be read, or is another service's.
    """
    text = ((config or {}).get("data") or {}).get(DECLARATION_KEY)
    if config is None or text is None:
        return None
    found = parse_declaration(text)
    name, namespace = config["metadata"]["name"], config["metadata"]["namespace"]
    if config_map_name(found.deployment.name) != name or found.deployment.namespace != namespace:
        raise DeployError(
            f"ConfigMap {namespace}/{name} declares {found.deployment.namespace}/{found.deployment.name}: "
            "wanted its own service; zeroserve declare writes it anew"
        )
    return found


def _deployment(value: Any) -> Deployment:
    known = {one.name: one.type for one in fields(Deployment)}
    given = _object(value, "deployment", list(known))
    for name in ("name", "url", "image"):
        if name not in given:
            raise DeployError(f"declaration: deployment.{name} is missing")
    read: dict[str, Any] = {}
    for name, found in given.items():
        where = f"deployment.{name}"
        match known[name]:
            case type() as kind:
                read[name] = _typed(found, kind, where)
            case shape if "tuple" in str(shape):
                read[name] = tuple(_typed(one, str, where) for one in _typed(found, list, where))
            case _:
                entries = _object(found, where)
                read[name] = {key: _typed(one, str, f"{where}.{key}") for key, one in entries.items()}
    return Deployment(**read)


def _sticky(value: Any) -> Sticky:
    entries = _object(value, "sticky", STICKY_KINDS)
    if len(entries) != 1:
        raise DeployError('declaration: sticky: wanted {"header": NAME}, {"cookie": NAME} or {"json": PATH}')
    kind, name = next(iter(entries.items()))
    return Sticky(kind, _typed(name, str, f"sticky.{kind}"))


def _shadow_numbers(shadow: Shadow) -> dict[str, float]:
    # 1 and 1.0 are the same wish, and so the same text.
    return {name: number if name == "version" else float(number) for name, number in asdict(shadow).items()}


def _shadow(value: Any) -> Shadow:
    entries = _object(value, "shadow", [one.name for one in fields(Shadow)])
    if "version" not in entries:
        raise DeployError("declaration: shadow.version is missing")
    numbers = {
        name: float(_typed(found, (int, float), f"shadow.{name}"))
        for name, found in entries.items()
        if name != "version"
    }
    return Shadow(_typed(entries["version"], int, "shadow.version"), **numbers)


def _object(value: Any, where: str, known: Sequence[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DeployError(f"declaration: {where}: wanted an object, found {_kind(value)}")
    for name in value:
        if known is not None and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise DeployError(f"declaration: {where}: {name[:80]!r} is not known{meant}")
    return value


def _typed(value: Any, kind: type | tuple[type, ...], where: str) -> Any:
    # bool is an int to Python, and not to anybody else
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise DeployError(f"declaration: {where}: wanted {wanted}, found {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
