"""The command `zeroserve coldstart`: where the time of a service's or a server's last cold start went."""

import argparse
import json
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from urllib.parse import quote, urlsplit

from functions.commands.cluster_access import cluster, progress
from functions.commands.cold_start_report import Report, pod_phases, report, text
from functions.commands.deploy_options import add_cluster
from functions.observing.metrics import DEFAULT_PATH
from knative.client import CORE, Client
from knative.error import DeployError
from knative.service import PORT

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

URL_SECONDS = 120.0
"""How long a URL may take to answer: behind it a service may have to come up first."""

MAX_PAGE_BYTES = 16 << 20


def coldstart_parser() -> argparse.ArgumentParser:
    """Of `zeroserve coldstart`."""
    parser = argparse.ArgumentParser(
        prog="zeroserve coldstart",
        description="Where the time of the last cold start went, and what would change it.",
    )
    parser.add_argument("target", metavar="NAME|URL", help="a service on the cluster, or http://host:port of a server")
    add_cluster(parser)
    return parser


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"": coldstart_parser()}


def main(words: Sequence[str]) -> int:
    """Runs the command and gives its exit status; a failure is one line on standard error."""
    asked = coldstart_parser().parse_args(words)
    try:
        found = [_of_url(asked.target)] if "://" in asked.target else list(_of_service(asked))
    except DeployError as error:
        print(f"zeroserve coldstart: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if asked.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        print("\n".join(text(one) for one in found))
    return 0


def _of_url(url: str) -> Report:
    where = url.rstrip("/")
    if urlsplit(where).scheme not in {"http", "https"}:
        raise DeployError(f"{url}: wanted http:// or https://, or the name of a service")
    page = where if urlsplit(where).path else where + DEFAULT_PATH
    try:
        with urllib.request.urlopen(page, timeout=URL_SECONDS) as answer:  # noqa: S310  checked above
            body = answer.read(MAX_PAGE_BYTES).decode(errors="replace")
    except (OSError, ValueError) as error:
        raise DeployError(f"{page} does not answer with metrics: {error}") from None
    found = report(where, body)
    if found is None:
        raise DeployError(f"{page} tells of no cold start: its models are not loaded yet, or it is no zeroserve")
    return found


def _of_service(asked: argparse.Namespace) -> Iterator[Report]:
    """One report for each pod that runs."""
    with cluster(asked) as (client, namespace):
        if client.service(namespace, asked.target) is None:
            raise DeployError(
                f"no service {asked.target!r} in namespace {namespace!r}: zeroserve list shows those there are"
            )
        pods = [
            pod
            for revision in client.revisions(namespace, asked.target)
            for pod in client.pods(namespace, revision["metadata"]["name"])
            if not pod["metadata"].get("deletionTimestamp") and pod.get("status", {}).get("phase") == "Running"
        ]
        if not pods:
            raise DeployError(f"{asked.target} has no pod now: send it one request, then ask again")
        told = 0
        for pod in sorted(pods, key=lambda one: str(one["metadata"]["creationTimestamp"])):
            name = pod["metadata"]["name"]
            page = client.ask_pod(namespace, name, PORT, DEFAULT_PATH).decode(errors="replace")
            found = report(name, page, pod_phases(pod, _events(client, namespace, name)))
            if found is None:
                progress(f"{name} tells of no cold start yet")
                continue
            told += 1
            yield found
        if not told:
            raise DeployError(f"no pod of {asked.target} has loaded its model yet: zeroserve status says why")


def _events(client: Client, namespace: str, pod: str) -> list[dict[str, object]]:
    query = {"fieldSelector": f"involvedObject.kind=Pod,involvedObject.name={pod}"}
    path = f"{CORE}/namespaces/{quote(namespace, safe='')}/events"
    found: list[dict[str, object]] = client.json("GET", path, query).get("items") or []
    return found
