"""The commands `zeroserve split`, `promote` and `rollback`: who gets how much, said by hand.

Somebody who says it by hand takes the traffic over, whoever set it before; tags stay.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from functions.commands.cluster_access import cluster, progress
from functions.commands.cluster_text import status_json, status_text
from functions.commands.deploy_options import add_cluster
from knative.declaration import declaration_of
from knative.deployer import Deployer, Making
from knative.error import DeployError
from knative.kn import kn_commands
from knative.names import is_own_tag, version_of
from knative.observation import service_status
from knative.policy import Split, parse_percents
from knative.rollout import Observed, Pin, Wanted, deployed, earlier, plan
from knative.traffic import WHOLE

Choose = Callable[[Observed, argparse.Namespace], Split | Pin]
EXIT_FAILED = 1


def split_parser() -> argparse.ArgumentParser:
    """Of `zeroserve split`."""
    parser = _parser("split", "Shares the traffic out: zeroserve split m 1=80 2=20.")
    parser.add_argument("percents", nargs="+", metavar="VERSION=PERCENT")
    return parser


def promote_parser() -> argparse.ArgumentParser:
    """Of `zeroserve promote`."""
    parser = _parser("promote", "Gives one version all traffic.")
    parser.add_argument("version", type=int, nargs="?", help="default: the highest that is deployed")
    return parser


def rollback_parser() -> argparse.ArgumentParser:
    """Of `zeroserve rollback`."""
    return _parser("rollback", "Gives all traffic to the revision that had it before, or to the version below.")


def split(words: Sequence[str]) -> int:
    """Shares the traffic out."""
    return _retarget(split_parser().parse_args(words), lambda _, asked: Split(parse_percents(asked.percents, "=")))


def promote(words: Sequence[str]) -> int:
    """Gives one version all traffic."""

    def chosen(observed: Observed, asked: argparse.Namespace) -> Split:
        there = deployed(asked.name, observed.traffic)
        return Split({asked.version if asked.version is not None else max(there, default=0): WHOLE})

    return _retarget(promote_parser().parse_args(words), chosen)


def rollback(words: Sequence[str]) -> int:
    """Goes back to what served before: once, however often the race for the traffic is lost."""
    target = ""

    def chosen(observed: Observed, asked: argparse.Namespace) -> Pin:
        nonlocal target
        target = target or earlier(asked.name, observed)
        return Pin({target: WHOLE})

    return _retarget(rollback_parser().parse_args(words), chosen)


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"zeroserve {command}", description=description)
    parser.add_argument("name", metavar="NAME", help="of the service")
    add_cluster(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the kn command, change nothing")
    return parser


def _retarget(asked: argparse.Namespace, choose: Choose) -> int:
    with cluster(asked) as (client, namespace):
        deployer = Deployer(client, namespace, progress)
        before = deployer.existing(asked.name)
        wanted = _wish(asked, before.observed, choose)
        steps = plan(before.observed, wanted)
        if asked.dry_run:
            commands = kn_commands(asked.name, namespace, before.observed.traffic, steps)
            print(json.dumps({"commands": commands}) if asked.json else "\n".join(commands) or "nothing to do")
            return 0
        if not steps:
            progress("nothing to do")
        now = deployer.carry_out(
            asked.name,
            lambda reading, _: _wish(asked, reading.observed, choose),
            Making(declaration_of(before.config)),
        )
        if now.resource is None:
            return EXIT_FAILED
        status = service_status(now.resource, now.revisions, declaration_of(now.config))
        print(json.dumps(status_json(status, {}), indent=1) if asked.json else status_text(status, {}))
        return 0


def _wish(asked: argparse.Namespace, observed: Observed, choose: Choose) -> Wanted:
    """All that is addressed stays addressed; only the shares change.

    Raises:
        DeployError: a version that is not deployed or not ready.
    """
    policy = choose(observed, asked)
    revisions = deployed(asked.name, observed.traffic)
    if isinstance(policy, Pin):
        for name in policy.percents:
            version = version_of(asked.name, name)
            if version is not None:
                revisions[version] = name
    chosen = policy.percents if isinstance(policy, Pin) else {revisions.get(one, ""): 0 for one in policy.percents}
    for version in () if isinstance(policy, Pin) else policy.percents:
        if version not in revisions:
            there = ", ".join(map(str, sorted(revisions))) or "none"
            raise DeployError(f"version {version} is not deployed; these are: {there}")
    for name in chosen:
        if not observed.revisions.get(name):
            raise DeployError(f"revision {name} is not ready: zeroserve status {asked.name} says why")
    # A version that is not ready is none of this command's business: it is not waited for.
    ready = {version: name for version, name in revisions.items() if observed.revisions.get(name)}
    tags = {target.tag: target.revision for target in observed.traffic if target.tag and not is_own_tag(target.tag)}
    waiting = {target.tag: target.revision for target in observed.traffic if target.revision in revisions.values()}
    kept = {tag: name for tag, name in waiting.items() if tag and not observed.revisions.get(name)} | tags
    return replace(Wanted(asked.name, ready, {}, policy, adopt=True), tags=kept)
