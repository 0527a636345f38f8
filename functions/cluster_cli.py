"""The commands `zeroserve deploy`, `status`, `list`, `delete`, `split`, `promote` and `rollback`."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from functions.config import cluster_environment
from functions.deploy_options import (
    add_cluster,
    deploy_parser,
    deployment_of,
    labels,
    version_policy,
)
from knative import kubeconfig
from knative.client import Client
from knative.deployer import Deployer, kn_commands, kn_traffic
from knative.error import DeployError
from knative.names import version_tag
from knative.observation import ServiceStatus, service_status
from knative.policy import parse_percents, parse_policy
from knative.rollout import Observed, Wanted, deployed, foreign, plan
from knative.service import Deployment, Version, manifest, revision
from knative.traffic import WHOLE, Traffic, block, in_words, shares
from loader.status import ServingError
from loader.storage import open_storage

EXIT_FAILED = 1


def main(command: str, words: Sequence[str]) -> int:
    """Runs one command and gives its exit status; a failure is one line on standard error."""
    try:
        return COMMANDS[command](words)
    except (DeployError, ServingError) as error:
        print(f"zeroserve {command}: {error}", file=sys.stderr)
        return EXIT_FAILED


def _deploy(words: Sequence[str]) -> int:
    asked = deploy_parser().parse_args(words)
    if asked.output:
        deployment = deployment_of(asked, asked.namespace or "default")
        _print_manifests(deployment, _versions(asked), asked)
        return 0
    with _client(asked) as (client, namespace):
        deployment = deployment_of(asked, namespace)
        versions = _versions(asked)
        deployer = Deployer(client, namespace, _progress)
        before = deployer.observe(deployment.name)
        wanted = _wanted(deployment, versions, asked)
        steps = plan(before, wanted)
        kept = foreign(before, wanted)
        if kept:
            _progress(
                f"somebody else set the traffic ({in_words(before.traffic)}): it stays; --adopt sets it as asked here"
            )
        if asked.dry_run:
            print("\n".join(kn_commands(deployment, steps)) or "nothing to do")
            return 0
        if not steps:
            _progress("nothing to do")
        deployer.run(deployment, versions, steps, keep_owner=kept, seconds=asked.ready_timeout)
        _print_status(deployer.status(deployment.name), as_json=asked.json)
        return 0


def _status(words: Sequence[str]) -> int:
    asked = _parsed("status", words, "One service: its URL, its versions, and why one is not ready.")
    with _client(asked) as (client, namespace):
        deployer = Deployer(client, namespace, _progress)
        status = deployer.status(asked.name)
        pods = {row.name: deployer.reasons(row.name) for row in status.revisions if not row.ready}
        _print_status(status, as_json=asked.json, pods=pods)
        return 0 if status.ready else EXIT_FAILED


def _list(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="zeroserve list", description="The services that zeroserve made.")
    add_cluster(parser)
    asked = parser.parse_args(words)
    with _client(asked) as (client, namespace):
        found = [
            service_status(service, client.revisions(namespace, service["metadata"]["name"]))
            for service in client.services(namespace)
        ]
    if asked.json:
        print(json.dumps([asdict(status) for status in found], indent=1))
    for status in found if not asked.json else ():
        serving = ", ".join(f"{row.version or row.name}: {row.percent}%" for row in status.revisions if row.percent)
        print(f"{status.name}  {'ready' if status.ready else 'not ready'}  {status.url}  {serving}")
    return 0


def _delete(words: Sequence[str]) -> int:
    asked = _parsed("delete", words, "Deletes a service and its revisions.")
    with _client(asked) as (client, namespace):
        client.delete(namespace, asked.name)
    print(json.dumps({"deleted": asked.name}) if asked.json else f"deleted {asked.name}")
    return 0


def _split(words: Sequence[str]) -> int:
    parser = _parser("split", "Shares the traffic out: zeroserve split m 1=80 2=20.")
    parser.add_argument("percents", nargs="+", metavar="VERSION=PERCENT")
    return _retarget(parser, words, lambda _, asked: parse_percents(asked.percents, "="))


def _promote(words: Sequence[str]) -> int:
    parser = _parser("promote", "Gives one version all traffic.")
    parser.add_argument("version", type=int, nargs="?", help="default: the highest that is deployed")

    def chosen(observed: Observed, asked: argparse.Namespace) -> dict[int, int]:
        there = deployed(asked.name, observed.traffic)
        return {asked.version if asked.version is not None else max(there, default=0): WHOLE}

    return _retarget(parser, words, chosen)


def _rollback(words: Sequence[str]) -> int:
    parser = _parser("rollback", "Gives the version below the one that has most traffic all of it.")

    def chosen(observed: Observed, asked: argparse.Namespace) -> dict[int, int]:
        there = deployed(asked.name, observed.traffic)
        serving = shares(observed.traffic)
        now = max(there, key=lambda version: serving.get(there[version], 0), default=0)
        below = [version for version in there if version < now]
        if not below:
            raise DeployError(f"no version below {now} is deployed; these are: {sorted(there)}")
        return {max(below): WHOLE}

    return _retarget(parser, words, chosen)


def _retarget(
    parser: argparse.ArgumentParser,
    words: Sequence[str],
    choose: Callable[[Observed, argparse.Namespace], Mapping[int, int]],
) -> int:
    """Changes who gets how much; tags stay. Somebody who says it by hand takes the traffic over."""
    parser.add_argument("--dry-run", action="store_true", help="print the kn command, change nothing")
    asked = parser.parse_args(words)
    with _client(asked) as (client, namespace):
        deployer = Deployer(client, namespace, _progress)
        before = deployer.observe(asked.name)
        there = deployed(asked.name, before.traffic)
        wanted = choose(before, asked)
        for version in wanted:
            if version not in there:
                raise DeployError(f"version {version} is not deployed; these are: {sorted(there)}")
            if not before.revisions.get(there[version]):
                raise DeployError(f"version {version} is not ready: zeroserve status {asked.name} says why")
        traffic = block(
            {there[version]: percent for version, percent in wanted.items()},
            {target.tag: target.revision for target in before.traffic if target.tag},
        )
        if asked.dry_run:
            print(kn_traffic(asked.name, namespace, traffic))
            return 0
        deployer.set_traffic(asked.name, traffic)
        deployer.await_service(asked.name)
        _print_status(deployer.status(asked.name), as_json=asked.json)
        return 0


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "deploy": _deploy,
    "status": _status,
    "list": _list,
    "delete": _delete,
    "split": _split,
    "promote": _promote,
    "rollback": _rollback,
}
"""Command -> what runs it, with the words after it."""


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"zeroserve {command}", description=description)
    parser.add_argument("name", metavar="NAME", help="of the service")
    add_cluster(parser)
    return parser


def _parsed(command: str, words: Sequence[str], description: str) -> argparse.Namespace:
    return _parser(command, description).parse_args(words)


@contextlib.contextmanager
def _client(asked: argparse.Namespace) -> Iterator[tuple[Client, str]]:
    environment = cluster_environment()
    access = kubeconfig.read(asked.kubeconfig or environment.get("KUBECONFIG", ""), environment, asked.context)
    client = Client(access)
    try:
        yield client, asked.namespace or access.namespace
    finally:
        client.close()


def _versions(asked: argparse.Namespace) -> dict[int, Version]:
    """The versions in storage that the policy chooses.

    Raises:
        ServingError: storage cannot be read.
        DeployError: there are none.
    """
    policy = version_policy(asked.policy)
    try:
        listed = open_storage(asked.url).list_versions()
    except FileNotFoundError:
        listed = {}
    chosen = policy.choose(listed)
    if not chosen:
        found = ", ".join(map(str, sorted(listed))) or "none"
        raise DeployError(
            f"no version of --policy={asked.policy} under {asked.url}: found {found}; a version is a number"
        )
    return {number: Version(number, listed[number].fingerprint) for number in chosen}


def _wanted(deployment: Deployment, versions: Mapping[int, Version], asked: argparse.Namespace) -> Wanted:
    return Wanted(
        deployment.name,
        {number: revision(deployment, version) for number, version in versions.items()},
        labels(asked.label),
        parse_policy(asked.rollout),
        asked.adopt,
    )


def _print_manifests(deployment: Deployment, versions: Mapping[int, Version], asked: argparse.Namespace) -> None:
    """One document for each revision, to be applied in this order; the last has the final traffic."""
    wanted = _wanted(deployment, versions, asked)
    documents = []
    for number in sorted(versions):
        made = {version: name for version, name in wanted.revisions.items() if version <= number}
        last = number == max(versions)
        before = block({made[max(made)]: WHOLE}, {version_tag(version): name for version, name in made.items()})
        documents.append(manifest(deployment, versions[number], _final(wanted) if last else before))
    print(yaml.safe_dump_all(documents, sort_keys=False), end="")


def _final(wanted: Wanted) -> Traffic:
    steps = plan(Observed({}), wanted)
    traffic: Traffic = ()
    for step in steps:
        traffic = getattr(step, "traffic", traffic)
    return traffic


def _print_status(status: ServiceStatus, *, as_json: bool, pods: Mapping[str, Sequence[str]] | None = None) -> None:
    reasons = {row.name: [*row.reasons, *(pods or {}).get(row.name, ())] for row in status.revisions}
    if as_json:
        content: dict[str, Any] = asdict(status)
        for row in content["revisions"]:
            row["reasons"] = reasons[row["name"]]
        print(json.dumps(content, indent=1))
        return
    print(f"{status.name}  {'ready' if status.ready else 'not ready'}  {status.url}")
    print(f"  {status.model} from {status.source}")
    if status.changed_by_others:
        print("  somebody else set the traffic; zeroserve deploy --adopt takes it over")
    for row in status.revisions:
        tags = " ".join(f"#{tag}" for tag in sorted(row.tags))
        print(f"  {row.percent:3}%  {row.name}  {'ready' if row.ready else 'not ready'}  {tags}".rstrip())
        for reason in reasons[row.name]:
            print(f"        {reason}")
    if status.ready:
        print(f"  try: curl {status.url}/v1/models/{status.model}")


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
