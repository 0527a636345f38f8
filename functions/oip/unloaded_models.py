"""Models that a repository call has taken out, as they were: with several workers, in all of them."""

import threading
from collections.abc import Callable, Mapping

from loader.model_config import ModelConfig


def _nobody(name: str, config: ModelConfig | None) -> None:
    """Where there is one process, nobody else has to know."""


class UnloadedModels:
    """Remembers. Safe from any thread.

    Attributes:
        everywhere: told what others have to remember, or with None forget; set once, by what knows them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._configs: dict[str, ModelConfig] = {}
        self.everywhere: Callable[[str, ModelConfig | None], None] = _nobody

    def all(self) -> dict[str, ModelConfig]:
        """Name -> what it was."""
        with self._lock:
            return dict(self._configs)

    def remember(self, config: ModelConfig) -> None:
        """Keeps what a model was, here and everywhere."""
        self.note(config.name, config)
        self.everywhere(config.name, config)

    def forget(self, name: str) -> ModelConfig | None:
        """What it was; nobody knows it any more."""
        config = self.all().get(name)
        if config is not None:
            self.note(name, None)
            self.everywhere(name, None)
        return config

    def note(self, name: str, config: ModelConfig | None) -> None:
        """Keeps it here alone, or with None forgets it."""
        with self._lock:
            if config is None:
                self._configs.pop(name, None)
            else:
                self._configs[name] = config

    def join(self, others: Mapping[str, ModelConfig]) -> None:
        """Takes over what others remember."""
        for name, config in others.items():
            self.note(name, config)
