"""What a server exports, under the names that Prometheus gives it."""

from collections.abc import Mapping

import requests

from functions.routing.exposition import samples

PATH = "/monitoring/prometheus/metrics"
Found = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]
"""Name of a sample -> its labels -> its number."""


def read(text: str) -> Found:
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for name, labels, number in samples(text):
        found.setdefault(name, {})[frozenset(labels.items())] = number
    return found


def scrape(address: str, path: str = PATH) -> Found:
    return read(requests.get(f"http://{address}{path}", timeout=60).text)


def value(found: Found, name: str, **labels: str) -> float:
    """The sum over all samples of a name that have these labels."""
    return sum(number for pairs, number in found.get(name, {}).items() if labels.items() <= dict(pairs).items())
