"""Deliveries as real servers sent them; `recorded/README.md` says which."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"


def delivery(name: str) -> tuple[dict[str, str], bytes]:
    """The headers, names in small letters, and the body of a recorded request."""
    found = json.loads((FOLDER / f"{name}.json").read_text())
    headers = {key.lower(): value for key, value in found["headers"].items()}
    return headers, json.dumps(found["body"]).encode()


def content(name: str) -> Any:
    """A recorded value that is no request."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def bodies() -> list[bytes]:
    """The body of every recorded request."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    return [json.dumps(value.get("body", value)).encode() for value in found if isinstance(value, dict)]
