"""`zeroserve compare NAME`: the revisions of a service side by side, from what their pods count.

Pods count from their start, and what a pod that is gone has counted is gone with it; `--seconds` compares what happens
from now on instead, which makes the counts of two revisions comparable whenever their pods were started.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from functions.commands.deploy_options import add_cluster
from functions.config import cluster_environment
from functions.routing.arm_report import as_json, lines, report
from functions.routing.exposition import Totals, since
from knative import kubeconfig
from knative.client import Client
from knative.error import DeployError
from knative.names import version_tag
from knative.observation import RevisionStatus, ServiceStatus, service_status
from knative.service import PORT

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_MISMATCH = 3
"""The split is not what was asked for."""

MAX_SECONDS = 86_400.0
"""Longest comparison: pods do not live for ever."""

METRICS = "/monitoring/prometheus/metrics"

Readings = Mapping[str, Mapping[str, str]]
"""Tag -> pod -> the text of its metrics."""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"": _parser()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve compare",
        description="Errors, latency and outcomes (--feedback) of the revisions of a service, its split, and what its "
        "shadow said. Shares have Wilson's interval, their difference Newcombe's, a difference of mean outcomes "
        "Welch's, quantiles that of the order statistics; all 95%.",
    )
    parser.add_argument("name", metavar="NAME", help="of the service")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="compare what happens in so many seconds; 0: since each pod's start"
    )
    add_cluster(parser)
    return parser


def main(words: Sequence[str]) -> int:
    """Prints the comparison, and gives the exit status; a failure is one line on standard error."""
    asked = _parser().parse_args(words)
    try:
        if not 0 <= asked.seconds <= MAX_SECONDS:
            raise DeployError(f"--seconds={asked.seconds:g}: wanted 0 to {MAX_SECONDS:g}")
        with _client(asked) as (client, namespace):
            return _compare(client, namespace, asked)
    except DeployError as error:
        print(f"zeroserve compare: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _compare(client: Client, namespace: str, asked: argparse.Namespace) -> int:
    service = client.service(namespace, asked.name)
    if service is None:
        raise DeployError(f"no service {asked.name!r} in namespace {namespace!r}: zeroserve list shows those there are")
    status = service_status(service, client.revisions(namespace, asked.name))
    before: Readings = {}
    if asked.seconds:
        before = _read(client, namespace, status)
        print(f"waiting {asked.seconds:g} s", file=sys.stderr, flush=True)
        time.sleep(asked.seconds)
    after = _read(client, namespace, status)
    percents: dict[str, float] = {}
    for row in status.revisions:
        percents[_tag(row)] = percents.get(_tag(row), 0) + row.percent
    pods = {tag: len(by_pod) for tag, by_pod in after.items()}
    found = report(status.model, percents, pods, {tag: _totals(after[tag], before.get(tag, {})) for tag in after})
    if asked.json:
        print(json.dumps(as_json(found), indent=1))
    else:
        print("\n".join(lines(found)))
        if not any(pods.values()):
            print(f"no pod runs: send requests to {status.url} and ask again")
    return EXIT_MISMATCH if found.mismatch else 0


def _tag(row: RevisionStatus) -> str:
    return row.name if row.version is None else version_tag(row.version)


def _read(client: Client, namespace: str, status: ServiceStatus) -> Readings:
    """What the running pods count; one that does not answer is left out."""
    found: dict[str, dict[str, str]] = {}
    for row in status.revisions:
        texts = found.setdefault(_tag(row), {})
        for pod in client.pods(namespace, row.name):
            if pod.get("status", {}).get("phase") != "Running":
                continue
            name = pod["metadata"]["name"]
            text = client.ask_pod(namespace, name, PORT, METRICS)
            if text:
                texts[name] = text.decode(errors="replace")
    return found


def _totals(after: Mapping[str, str], before: Mapping[str, str]) -> Totals:
    totals = Totals()
    for pod, text in after.items():
        totals.add(since(text, before.get(pod, "")))
    return totals


@contextlib.contextmanager
def _client(asked: argparse.Namespace) -> Iterator[tuple[Client, str]]:
    environment = cluster_environment()
    access = kubeconfig.read(asked.kubeconfig or environment.get("KUBECONFIG", ""), environment, asked.context)
    client = Client(access)
    try:
        yield client, asked.namespace or access.namespace
    finally:
        client.close()
