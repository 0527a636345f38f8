"""One store for all tests of a run, one namespace for each."""

from collections.abc import Iterator

import pytest

from tests.e2e.place import Place, place, reachable_store
from tests.servers.s3 import S3Server


@pytest.fixture(scope="session")
def cluster_store() -> Iterator[S3Server]:
    """A real S3 server that the cluster's pods reach."""
    with reachable_store() as store:
        yield store


@pytest.fixture
def here(cluster_store: S3Server) -> Iterator[Place]:
    """A namespace of the test's own."""
    with place(cluster_store) as found:
        yield found
