"""Where a mix lies: `mix.json` in the folder of a version, in the place of a SavedModel. Imports nothing that costs."""

from pathlib import Path

NAME = "mix.json"
SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
"""Beside one of these `mix.json` is a file of the model's own."""


def is_mix(path: Path) -> bool:
    """Whether the version in the folder `path` is a mix."""
    return (path / NAME).is_file() and not any((path / name).exists() for name in SAVED_MODELS)
