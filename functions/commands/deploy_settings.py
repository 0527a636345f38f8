"""What the settings of a deployment's pods imply: whether they can start, and how many requests they take at a time."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from functions.config import load_settings
from functions.flags import UsageError
from knative.error import DeployError
from knative.service import MAX_CONTAINER_CONCURRENCY, Deployment
from loader.batching_parameters import DEFAULT_MAX_BATCH_SIZE, BatchingParameters, parse_batching_parameters

PREFIX = "SERVING_"


def batching_environment(text: str) -> dict[str, str]:
    """A BatchingParameters text as variables: a pod has no file.

    Raises:
        ServingError: INVALID_ARGUMENT, saying where it cannot be read.
    """
    given = parse_batching_parameters(text)
    usual = replace(BatchingParameters(), num_batch_threads=given.num_batch_threads)
    found = {f"{PREFIX}ENABLE_BATCHING": "true"}
    for name in BatchingParameters.__dataclass_fields__:
        value = getattr(given, name)
        # The usual number of threads is this machine's, and not the pod's.
        if name in text if name == "num_batch_threads" else value != getattr(usual, name):
            found[f"{PREFIX}{name.upper()}"] = _word(value)
    return found


def checked_environment(environment: Mapping[str, str]) -> None:
    """Refuses here what a pod would refuse when it starts.

    Raises:
        DeployError: an unknown `SERVING_*` variable, or a value that a pod cannot take.
    """
    ours = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    try:
        load_settings((), {**ours, "MODEL_NAME": "model"})
    except UsageError as error:
        raise DeployError(f"--env: {error}") from None


def with_concurrency(deployment: Deployment, cpus: int) -> Deployment:
    """The deployment with the concurrency that its batching needs, where it batches; else as it is.

    Args:
        cpus: of a pod, where the batching threads are not said.
    """
    settings = load_settings((), {**_serving(deployment.environment), "MODEL_NAME": "model"})
    if not settings.enable_batching or settings.enable_per_model_batching_parameters:
        return deployment
    parameters = BatchingParameters(
        max_batch_size=settings.max_batch_size or DEFAULT_MAX_BATCH_SIZE,
        num_batch_threads=settings.num_batch_threads or cpus,
        enable_large_batch_splitting=settings.enable_large_batch_splitting,
        max_execution_batch_size=settings.max_execution_batch_size,
    )
    wanted = parameters.concurrency
    # Knative takes no larger number than that but 0, which is no limit at all.
    return replace(deployment, concurrency=wanted if wanted <= MAX_CONTAINER_CONCURRENCY else 0)


def pod_cpus(quantity: str) -> int:
    """The whole CPUs of a Kubernetes quantity, at least 1."""
    if not quantity:
        return 1
    return max(1, int(Decimal(quantity[:-1]) / 1000 if quantity.endswith("m") else Decimal(quantity)))


def _serving(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(PREFIX)}


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
