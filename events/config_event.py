"""`com.zeroserve.model.config.v1`: a ModelServerConfig as JSON, what a reload of TensorFlow Serving asks for. Pure.

Data is `{"config": {"modelConfigList": {"config": [{"name": "m", "basePath": "s3://b/m", ...}]}}}`, the JSON form of a
ReloadConfigRequest (or of the ModelServerConfig in it), in the names of either proto or JSON. The attribute `service`
says whose pod was asked: a model that nobody declared yet is deployed like that service's.

Other than in one process, a model that the list leaves out stays: `zeroserve delete` ends a service, a reload never.

Source: tensorflow_serving/config/model_server_config.proto; protobuf's JSON mapping.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from events.error import MalformedError
from events.json_value import inner, items, mapping, optional_size, text
from loader.policy import All, Latest, Specific, VersionPolicy

TYPE = "com.zeroserve.model.config.v1"

MAX_MODELS = 1000
"""Models of one config."""


@dataclass(frozen=True, slots=True)
class ModelWish:
    """What a config says of one model.

    Attributes:
        name: that requests call it by.
        url: its base path.
        policy: which versions.
        labels: label -> version.
    """

    name: str
    url: str
    policy: VersionPolicy
    labels: Mapping[str, int]


def model_wishes(data: Any) -> tuple[ModelWish, ...]:
    """The models of a config.

    Raises:
        MalformedError: it is none, or names a model twice.
    """
    value = mapping(inner(data, "data"), "data")
    config = mapping(value.get("config", value), "config")
    listed = mapping(_field(config, "model_config_list"), "model_config_list")
    wishes = tuple(_wish(entry) for entry in items(listed.get("config") or [], "config", MAX_MODELS))
    names = {wish.name for wish in wishes}
    if len(names) != len(wishes):
        raise MalformedError("Illegal to list a model multiple times in config list")
    return wishes


def _wish(entry: Any) -> ModelWish:
    value = mapping(entry, "a model's config")
    name = text(value.get("name"), "name")
    labels = mapping(_field(value, "version_labels") or {}, "version_labels")
    return ModelWish(
        name,
        text(_field(value, "base_path"), f"base_path of {name}").rstrip("/"),
        _policy(mapping(_field(value, "model_version_policy") or {}, "model_version_policy")),
        {label: _number(version, f"label {label}") for label, version in labels.items()},
    )


def _policy(value: Mapping[str, Any]) -> VersionPolicy:
    if "all" in value:
        return All()
    if "specific" in value:
        versions = items(mapping(value["specific"], "specific").get("versions") or [], "versions", MAX_MODELS)
        return Specific(frozenset(_number(version, "versions") for version in versions))
    count = _field(mapping(value.get("latest") or {}, "latest"), "num_versions")
    return Latest(max(1, _number(count, "num_versions")) if count is not None else 1)


def _number(value: Any, what: str) -> int:
    number = optional_size(value)
    if number is None:
        raise MalformedError(f"{what}: {value!r:.40}, wanted a number")
    return number


def _field(value: Mapping[str, Any], name: str) -> Any:
    """A field by its proto name, or by its JSON name."""
    head, *rest = name.split("_")
    return value.get(name, value.get(head + "".join(word.capitalize() for word in rest)))
