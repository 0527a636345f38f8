"""The commands about a cluster: `deploy`, `declare`, `status`, `list`, `delete`, `split`, `promote`, `rollback`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from events.declared import noted_text
from functions.commands.cluster_access import cluster, progress
from functions.commands.cluster_text import list_text, next_commands, status_json, status_text
from functions.commands.deploy import declare, deploy
from functions.commands.deploy_options import add_cluster
from functions.commands.traffic import promote, rollback, split
from knative import keys
from knative.declaration import DECLARATION_KEY, declaration_of
from knative.deployer import Deployer
from knative.error import DeployError
from knative.observation import service_status
from loader.status import ServingError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(command: str, words: Sequence[str]) -> int:
    """Runs one command and gives its exit status; a failure is one line on standard error."""
    try:
        status = COMMANDS[command](words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # `zeroserve status m | head -1`: whoever reads has enough. What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (DeployError, ServingError) as error:
        print(f"zeroserve {command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"zeroserve {command}: interrupted; what was done stays, the same command goes on", file=sys.stderr)
        return EXIT_INTERRUPTED


def status_parser() -> argparse.ArgumentParser:
    """Of `zeroserve status`."""
    return _named("status", "One service: its URL, its versions, and why one is not ready.")


def list_parser() -> argparse.ArgumentParser:
    """Of `zeroserve list`."""
    parser = argparse.ArgumentParser(prog="zeroserve list", description="The services that zeroserve made.")
    add_cluster(parser)
    return parser


def delete_parser() -> argparse.ArgumentParser:
    """Of `zeroserve delete`."""
    parser = _named("delete", "Deletes a service, its revisions, and what was declared of it.")
    parser.add_argument("--dry-run", action="store_true", help="print what would go, change nothing")
    return parser


def _status(words: Sequence[str]) -> int:
    asked = status_parser().parse_args(words)
    with cluster(asked) as (client, namespace):
        deployer = Deployer(client, namespace, progress)
        found = deployer.read(asked.name)
        try:
            declared = declaration_of(found.config)
        except DeployError as error:
            if found.resource is None:
                raise
            progress(str(error))  # what serves is shown all the same
            declared = None
        if found.resource is None and declared is not None:
            landing = noted_text(found.config or {})
            text = f"{asked.name}  declared, no version has landed yet from {declared.deployment.url}"
            content = {"name": asked.name, "declared": True, "ready": False, "landing": landing}
            print(json.dumps(content) if asked.json else text + (f"\n  landing: {landing}" if landing else ""))
            return EXIT_FAILED
        found = deployer.existing(asked.name)
        assert found.resource is not None  # noqa: S101  existing() raises otherwise
        status = service_status(found.resource, found.revisions, declared)
        pods = {row.name: deployer.readiness.reasons(row.name) for row in status.revisions if not row.ready}
    if asked.json:
        print(json.dumps(status_json(status, pods), indent=1))
    else:
        print(status_text(status, pods))
        if status.ready:
            print(next_commands(status))
    return 0 if status.ready else EXIT_FAILED


def _list(words: Sequence[str]) -> int:
    asked = list_parser().parse_args(words)
    with cluster(asked) as (client, namespace):
        found = [
            service_status(service, client.revisions(namespace, service["metadata"]["name"]))
            for service in client.services(namespace)
        ]
        deployed = {status.name for status in found}
        undeployed = sorted(
            name
            for config in client.config_maps(namespace)
            if DECLARATION_KEY in (config.get("data") or {})
            and (name := config["metadata"]["labels"].get(keys.SERVICE_LABEL, "")) not in deployed
        )
    if asked.json:
        print(json.dumps([*(status_json(one, {}) for one in found), *({"name": one} for one in undeployed)], indent=1))
    elif found or undeployed:
        print(list_text(found, undeployed))
    return 0


def _delete(words: Sequence[str]) -> int:
    asked = delete_parser().parse_args(words)
    with cluster(asked) as (client, namespace):
        deployer = Deployer(client, namespace, progress)
        gone = deployer.belongings(asked.name)
        if not asked.dry_run:
            deployer.delete(asked.name)
    if asked.json:
        print(json.dumps({"deleted": gone, "dry_run": asked.dry_run}))
    else:
        print("\n".join(f"{'would delete' if asked.dry_run else 'deleted'} {one}" for one in gone))
    return 0


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "deploy": deploy,
    "declare": declare,
    "status": _status,
    "list": _list,
    "delete": _delete,
    "split": split,
    "promote": promote,
    "rollback": rollback,
}
"""Command -> what runs it, with the words after it."""


def _named(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"zeroserve {command}", description=description)
    parser.add_argument("name", metavar="NAME", help="of the service")
    add_cluster(parser)
    return parser
