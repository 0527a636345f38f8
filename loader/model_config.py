"""Which models to serve, from where, which versions, under which labels: TensorFlow Serving's config file.

Source: tensorflow_serving/config/model_server_config.proto; GetPlatform, ValidateModelConfigList and
ValidateNoModelsChangePlatforms in tensorflow_serving/model_servers/server_core.cc, whose words the errors use.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loader.policy import All, Latest, Specific, VersionPolicy
from loader.status import Code, ServingError

_log = logging.getLogger("zeroserve.model_config")

PLATFORM = "tensorflow"
"""The one platform there is."""

MODEL_TYPE_UNSPECIFIED, MODEL_TYPE_TENSORFLOW = 0, 1
"""`ModelType`, the deprecated way to say it."""

DEFAULT_POLICY = Latest()
"""What a model without `model_version_policy` gets."""

_URI = re.compile(r"[A-Za-z][0-9A-Za-z+.-]*://|(?:[A-Za-z][0-9A-Za-z+.-]*::)+")
"""`s3://...`, or fsspec's chained `zip::s3://...`."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        base_path: the folder that holds the version folders: an absolute path or a URL.
        labels: label -> version.
        platform: always `PLATFORM`, once validated.
        logging: the `LoggingConfig` message of this model, or None.
    """

    name: str
    base_path: str
    policy: VersionPolicy = DEFAULT_POLICY
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = PLATFORM
    logging: Any = None


def parse_model_config(text: str, *, root: str | None = None, path: str = "") -> list[ModelConfig] | None:
    """Reads a config file in protobuf text format.

    Args:
        text: a `ModelServerConfig`.
        root: what relative base paths stand on; without it they are refused.
        path: where the text came from, for the error.

    Returns:
        The models in the file's order; None when the file sets nothing, which asks for no change (an empty
        `model_config_list {}` asks for no models, and gives an empty list).

    Raises:
        ServingError: INVALID_ARGUMENT; for text that does not parse it names line and column.
    """
    import loader.protos  # noqa: PLC0415  a server of one model has no config file and does not pay for this

    assert loader.protos  # noqa: S101  imported for what it does to `tensorflow`
    from google.protobuf import text_format  # noqa: PLC0415
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig  # noqa: PLC0415

    message = ModelServerConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"Invalid protobuf file: '{path}': {error}") from error
    return model_configs(message, root=root)


def model_configs(message: Any, *, root: str | None = None) -> list[ModelConfig] | None:
    """The models of a `ModelServerConfig` message; arguments, result and errors as in `parse_model_config`."""
    kind = message.WhichOneof("config")
    if kind is None:
        return None
    if kind != "model_config_list":
        raise ServingError(
            Code.INVALID_ARGUMENT,
            "custom_model_config is not supported: found it set, wanted model_config_list with the models to serve",
        )
    configs = [_model(config, root) for config in message.model_config_list.config]
    check_models(configs)
    return configs


def check_models(configs: Iterable[ModelConfig]) -> None:
    """Whether these models can be served together.

    Raises:
        ServingError: INVALID_ARGUMENT for a name given twice, a relative base path or an unknown platform.
    """
    names: set[str] = set()
    for config in configs:
        if not config.name:
            raise ServingError(Code.INVALID_ARGUMENT, f"a model has no name: its base_path is {config.base_path!r}")
        if config.name in names:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Illegal to list model {config.name} multiple times in config list"
            )
        names.add(config.name)
        if _is_relative(config.base_path):
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}",
            )
        if config.platform != PLATFORM:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Model {config.name} requests unsupported platform {config.platform}"
            )


def check_platforms(old: Sequence[ModelConfig], new: Iterable[ModelConfig]) -> None:
    """A reload cannot change the platform of a model.

    Raises:
        ServingError: INVALID_ARGUMENT, naming both platforms.
    """
    platforms = {config.name: config.platform for config in old}
    for config in new:
        was = platforms.get(config.name, config.platform)
        if was != config.platform:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Illegal to change a model's platform. For model {config.name} platform was {was} "
                f"and new platform requested is {config.platform}",
            )


def _model(config: Any, root: str | None) -> ModelConfig:
    base_path = config.base_path
    if config.logging_config.HasField("log_collector_config"):
        _log.warning(
            "model %s: log_collector_config is not used: --record_to and --prediction_log_sink say where predictions "
            "go; its sampling_config counts for both",
            config.name,
        )
    if root is not None and _is_relative(base_path):
        base_path = f"{root.rstrip('/')}/{base_path}"
    return ModelConfig(
        name=config.name,
        base_path=base_path,
        policy=_policy(config.model_version_policy),
        labels=dict(config.version_labels),
        platform=_platform(config),
        logging=config.logging_config if config.HasField("logging_config") else None,
    )


def _policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        return Specific(frozenset(policy.specific.versions))
    return Latest(max(policy.latest.num_versions, 1))


def _platform(config: Any) -> str:
    if config.model_type != MODEL_TYPE_UNSPECIFIED:
        if config.model_platform:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {config.name}",
            )
        if config.model_type != MODEL_TYPE_TENSORFLOW:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"ModelServerConfig::model_type choice {config.model_type} not supported."
            )
        return PLATFORM
    if not config.model_platform:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {config.name}",
        )
    return str(config.model_platform)


def _is_relative(base_path: str) -> bool:
    return not base_path.startswith("/") and _URI.match(base_path) is None
