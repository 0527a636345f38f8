"""Drives a rollout in steps while its command runs; the sweep does the same where nobody follows."""

import time
from dataclasses import replace

from functions.cluster_access import progress
from knative.client import ConflictError
from knative.condition import condition, is_ready
from knative.declaration import Declaration
from knative.deployer import Deployer
from knative.names import version_of
from knative.progression import (
    Health,
    Phase,
    Progress,
    Verdict,
    advance,
    in_words,
    note,
    noted,
    policy_of,
)
from knative.reading import Reading
from knative.rollout import Wanted, aspired_traffic, deployed
from knative.service import traffic_patch

LOOK_SECONDS = 1.0
"""Between two looks at a rollout."""


def follow(deployer: Deployer, name: str, declaration: Declaration, now: Reading) -> Reading:
    """Takes a rollout's steps as they become due until it ends; returns the service as it is then.

    Raises:
        DeployError: the cluster refuses.
    """
    told = ""
    while (state := noted(now.resource)) is not None and state.phase is Phase.STEPPING:
        line = in_words(state, time.time()).partition("; ")[0]
        if line != told:
            told = line
            progress(line)
        after = advance(state, now.observed, time.time(), verdict(deployer, now, state))
        if after == state:
            time.sleep(LOOK_SECONDS)
        else:
            try:
                write(deployer, name, declaration, now, after)
                deployer.readiness.await_service(name)
            except ConflictError:
                pass  # the next look shows why
            if after.phase is not Phase.STEPPING:
                progress(in_words(after, time.time()))
        now = deployer.read(name)
    return now


def write(deployer: Deployer, name: str, declaration: Declaration, now: Reading, after: Progress) -> None:
    """Writes a state together with the traffic that belongs to it.

    Raises:
        ConflictError: the service is not what was read any more.
    """
    policy = policy_of(after, now.observed)
    traffic = now.observed.traffic
    if policy is not None:
        revisions = deployed(name, now.observed.traffic)
        version = version_of(name, after.revision)
        if version is not None:
            revisions[version] = after.revision
        # The highest version of the wish is what a canary is of; a newer one that waits is not this rollout's.
        revisions = {number: one for number, one in revisions.items() if version is None or number <= version}
        there = deployed(name, now.observed.traffic)
        labels = {label: number for label, number in declaration.labels.items() if number in revisions}
        wanted = Wanted(name, revisions, labels, policy)
        traffic = aspired_traffic(now.observed, replace(wanted, revisions={**there, **revisions}))
    patch = traffic_patch(traffic, ours=not now.observed.changed_by_others)
    patch["metadata"]["annotations"] |= note(after)
    deployer.write_traffic(name, now, patch, traffic, declaration)


def verdict(deployer: Deployer, now: Reading, state: Progress) -> Verdict:
    """What its conditions and its pods say of the new revision."""
    entry = next((one for one in now.revisions if one["metadata"]["name"] == state.revision), None)
    if entry is None:
        return Verdict(Health.BAD, "the revision is gone")
    reasons = deployer.readiness.reasons(state.revision)
    if condition(entry)[0] == "False":
        return Verdict(Health.BAD, "; ".join([": ".join(condition(entry)[1:]), *reasons]))
    if reasons:
        return Verdict(Health.BAD, "; ".join(reasons))
    return Verdict(Health.GOOD if is_ready(entry) else Health.UNKNOWN)
