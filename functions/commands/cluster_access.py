"""How the commands reach the cluster: its client, its namespace, and where progress goes."""

import argparse
import contextlib
import sys
from collections.abc import Iterator

from functions.config import cluster_environment
from knative import kubeconfig
from knative.client import Client
from knative.names import checked_namespace


@contextlib.contextmanager
def cluster(asked: argparse.Namespace) -> Iterator[tuple[Client, str]]:
    """A client of the cluster that the options and the environment name, and the namespace; closed at the end.

    Raises:
        DeployError: there is none.
    """
    environment = cluster_environment()
    access = kubeconfig.read(asked.kubeconfig or environment.get("KUBECONFIG", ""), environment, asked.context)
    client = Client(access)
    try:
        yield client, checked_namespace(asked.namespace or access.namespace)
    finally:
        client.close()


def progress(line: str) -> None:
    """Tells people what is being done; standard output is for the result."""
    print(line, file=sys.stderr, flush=True)
