"""Drives a rollout in steps while its command runs, by the rules of the deploy function; the sweep does it otherwise.

A rollout whose gates are still at work is left to the deploy function, which began it: here it is only watched.
"""

import contextlib
import time

from events.gate_bench import Bench
from events.gate_http import Peer
from events.gate_rollout import Gated
from events.health_pods import read_pods, restarts
from events.rollout_hook import Move, Situation
from functions.commands.cluster_access import progress
from knative.client import Client, ConflictError
from knative.declaration import Declaration, declaration_of
from knative.deployer import Deployer
from knative.error import DeployError
from knative.names import version_of
from knative.progression import Phase, Progress, in_words, noted
from knative.reading import Reading
from knative.rollout import Pin, Wanted, aspired_traffic, deployed
from knative.service import traffic_patch

LOOK_SECONDS = 2.0
"""Between two looks at a rollout."""


def follow(deployer: Deployer, client: Client, namespace: str, declaration: Declaration, now: Reading) -> Reading:
    """Takes a rollout's steps as they become due until it ends; returns the service as it is then.

    Raises:
        DeployError: the cluster refuses; the new version was taken back, or somebody else stopped the rollout.
    """
    rollout = Gated(
        (),
        Bench(),
        _no_peer,
        pods=lambda place, revision, model: read_pods(client, place, revision, model),
        restarts=lambda place, revision: restarts(client, place, revision),
    )
    name, told, state = declaration.deployment.name, "", noted(now.resource)
    if state is None or state.phase is not Phase.STEPPING:
        return now
    while state is not None and state.phase is Phase.STEPPING:
        line = _line(state)
        if line != told:
            told = line
            progress(line)
        declaration = declaration_of(now.config) or declaration
        with contextlib.suppress(ConflictError):  # the next look shows what somebody else did
            if state.percent:
                _step(deployer, rollout, namespace, declaration, now)
        time.sleep(LOOK_SECONDS)
        now = deployer.read(name)
        state = noted(now.resource)
    if state is not None:
        progress(in_words(state, time.time()))
        if state.phase is not Phase.PROMOTED:
            raise DeployError(in_words(state, time.time()))
    return now


def _line(state: Progress) -> str:
    # Without the seconds, which would be news each time.
    done, _, waits = in_words(state, time.time()).partition("; ")
    return done if waits.startswith("next") else f"{done}; {waits}"


def _step(deployer: Deployer, rollout: Gated, namespace: str, declaration: Declaration, now: Reading) -> None:
    name, state = declaration.deployment.name, noted(now.resource)
    version = version_of(name, state.revision) if state is not None else None
    if now.resource is None or state is None or version is None:
        return
    old = max(state.before, key=lambda one: (state.before[one], one), default=None)
    observed = now.observed
    decision = rollout.decide(
        Situation(namespace, declaration, now.resource, now.revisions, observed, old, state.revision, version)
    )
    if not isinstance(decision, Move):
        return
    # A canary is of the highest version of a wish; a newer one that waits for its turn is not this rollout's.
    addressed = {number: one for number, one in deployed(name, observed.traffic).items() if number <= version}
    labels = {label: number for label, number in declaration.labels.items() if number in addressed}
    tags = {target.tag: target.revision for target in observed.traffic if target.tag}
    wanted = Wanted(name, addressed | {version: state.revision}, labels, decision.policy, tags=tags)
    traffic = aspired_traffic(observed, wanted)
    news = {key: text for key, text in decision.annotations.items() if _noted_text(now, key) != text}
    if traffic == observed.traffic and not news:
        return
    previous = observed.previous if isinstance(decision.policy, Pin) else None
    patch = traffic_patch(traffic, ours=not observed.changed_by_others, previous=previous)
    patch["metadata"]["annotations"] |= decision.annotations
    deployer.write_traffic(name, now, patch, traffic, declaration, tell=traffic != observed.traffic)
    deployer.readiness.await_service(name)


def _noted_text(now: Reading, key: str) -> str:
    found: str = ((now.resource or {}).get("metadata", {}).get("annotations") or {}).get(key, "")
    return found


def _no_peer(namespace: str, service: str, tag: str, revision: str) -> Peer:
    raise DeployError(f"{namespace}/{tag}-{service}: gates are asked by the deploy function")
