"""The commands with which a plan could be carried out by hand: `kubectl` for revisions, `kn` for traffic. Pure."""

import shlex
from collections.abc import Sequence

from knative.names import version_tag
from knative.rollout import AwaitReady, CreateRevision, DeleteRevision, SetTraffic, Step
from knative.traffic import Traffic


def kn_commands(service: str, namespace: str, before: Traffic, steps: Sequence[Step]) -> list[str]:
    """One command for each step; manifests of revisions come from `zeroserve deploy -o yaml`.

    Args:
        before: the traffic as it is.
    """
    commands = []
    for step in steps:
        match step:
            case CreateRevision(name, version, traffic):
                before = traffic
                commands.append(f"kubectl apply --server-side -f {version_tag(version)}.yaml  # {name}")
            case AwaitReady(name):
                commands.append(f"kubectl wait --for=condition=Ready --timeout=600s -n {namespace} revision/{name}")
            case SetTraffic(traffic):
                commands.append(kn_traffic(service, namespace, before, traffic))
                before = traffic
            case DeleteRevision(name):
                commands.append(f"kn revision delete {name} -n {namespace}")
    return commands


def kn_traffic(service: str, namespace: str, before: Traffic, traffic: Traffic) -> str:
    """The `kn` command that makes one block of another: tags that go or move are taken away first."""
    old = {target.tag: target.revision for target in before if target.tag}
    new = {target.tag: target.revision for target in traffic if target.tag}
    words = ["kn", "service", "update", service, "-n", namespace]
    for tag, revision in old.items():
        if new.get(tag) != revision:
            words += ["--untag", tag]
    for tag, revision in new.items():
        if old.get(tag) != revision:
            words += ["--tag", f"{revision or '@latest'}={tag}"]
    for target in traffic:
        if target.percent:
            words += ["--traffic", f"{target.revision or '@latest'}={target.percent}"]
    return shlex.join(words)
