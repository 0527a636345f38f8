"""The share of a model's predictions that leave: that of the flags, or of the model's own `logging_config`.

Source: tensorflow_serving/config/logging_config.proto (`sampling_config { sampling_rate }`). The stock server's
`log_collector_config` names a collector that its user has to build in; where things go is a flag's to say here.
"""

import time
from collections.abc import Callable, Sequence

from loader.model_config import ModelConfig

REFRESH_SECONDS = 1.0
"""How long a reload's new rates may wait to count."""


class Shares:
    """Rates of models. Used on the event loop's thread."""

    def __init__(self) -> None:
        self._configs: Callable[[], Sequence[ModelConfig]] = list
        self._rates: dict[str, float] = {}
        self._next = 0.0

    def follow(self, configs: Callable[[], Sequence[ModelConfig]]) -> None:
        """From now on the rates are those of these models."""
        self._configs = configs
        self._next = 0.0

    def of(self, model: str, share: float) -> float:
        """The rate of a model; `share` where it says none."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + REFRESH_SECONDS
            self._rates = {
                config.name: config.logging.sampling_config.sampling_rate
                for config in self._configs()
                if config.logging is not None and config.logging.HasField("sampling_config")
            }
        return self._rates.get(model, share) if self._rates else share
