"""The words of `zeroserve deploy` and `zeroserve declare`, read into a declaration.

One rule for all: what is not said stays as it was declared, and `--fresh` forgets what was declared.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from knative.declaration import OVERWRITTEN, Declaration, Shadow, Sticky
from knative.error import DeployError
from knative.policy import Keep, Split, parse_policy
from knative.service import Deployment

READY_SECONDS = 600
"""What a revision gets to become ready."""

NONE = "none"
"""The word that takes a sticky key, a shadow or a secret away again."""

_DEPLOYMENT = frozenset(field.name for field in fields(Deployment)) - {"name", "url", "namespace"}
"""Fields whose options are named as they are."""


def deploy_parser(command: str = "deploy") -> argparse.ArgumentParser:
    """The command line of `zeroserve deploy`, or of `zeroserve declare`."""
    does = {
        "deploy": "From a model's storage path to a ready URL on Knative. What is not said stays as it was declared.",
        "declare": "Says what is wanted of a model, and deploys nothing: its uploads do.",
    }
    parser = argparse.ArgumentParser(prog=f"zeroserve {command}", description=does[command])
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the service, and of the model unless --model says")
    parser.add_argument("url", nargs="?", metavar="URL", help="folder of the numbered versions: s3://bucket/m, gs://")
    parser.add_argument("--config", metavar="FILE", help="a ModelServerConfig: a service for each of its models")
    add_cluster(parser)
    _add_what(parser)
    _add_traffic(parser)
    _add_pods(parser)
    parser.add_argument("--fresh", action="store_true", help="forget what was declared: this command line says it all")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, change nothing")
    if command == "deploy":
        parser.add_argument("--adopt", action="store_true", help="take over traffic that somebody else changed")
        parser.add_argument("-o", dest="output", choices=["yaml", "cloud-run"], help="print manifests, ask no cluster")
        parser.add_argument("--no-wait", action="store_true", help="ask for the revisions and leave")
    return parser


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """What every command about a cluster takes."""
    parser.add_argument("-n", "--namespace", default="", help="default: the context's")
    parser.add_argument("--kubeconfig", default="", help="default: $KUBECONFIG, the pod's own, ~/.kube/config")
    parser.add_argument("--context", default="", help="of the kubeconfig; default: its current one")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is served")
    group.add_argument("--image", help="made from the Dockerfile's target predict")
    group.add_argument("--model", help="name that requests call the model by; default: NAME")
    group.add_argument("--policy", metavar="latest:N|all|specific:1,4", help="which versions; default: latest:1")
    group.add_argument("--overwritten", choices=OVERWRITTEN, help="when files of a deployed version change")


def _add_traffic(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who gets the traffic")
    group.add_argument(
        "--rollout",
        metavar="HOW",
        help="all, canary=10, split=1:80,2:20, steps=10,50,100:5m or gradual=300 (seconds); default: a version that "
        "is new gets all, and else nothing changes",
    )
    group.add_argument(
        "--label", action="append", default=[], metavar="NAME=VERSION", help="stable=3; stable= takes it away"
    )
    group.add_argument("--sticky", metavar="KIND:NAME", help="header:x-user-id, cookie:uid, json:user.id or none")
    group.add_argument("--shadow", metavar="VERSION[:PERCENT]", help="gets copies whose answers are compared, or none")
    group.add_argument(
        "--gate", action="append", default=[], metavar="NAME=VALUE", help="before a version gets traffic"
    )


def _add_pods(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("its pods")
    group.add_argument("--cpu", help="request, such as 500m")
    group.add_argument("--memory", help="request and limit, such as 1Gi")
    group.add_argument("--gpus", "--gpu", type=int, metavar="N", help="how many of --gpu-resource")
    group.add_argument("--gpu-resource", metavar="NAME", help="default nvidia.com/gpu; nvidia.com/mig-1g.5gb")
    group.add_argument("--min-scale", type=int, metavar="N", help="of every addressed version; default 0")
    group.add_argument("--max-scale", type=int, metavar="N", help="0: no limit")
    group.add_argument(
        "--concurrency", type=int, metavar="N", help="requests in one pod at a time; default: what batching needs, or 0"
    )
    group.add_argument("--target", type=int, metavar="N", help="concurrency that the autoscaler aims at")
    group.add_argument("--service-account", metavar="NAME", help="whose identity reads storage")
    group.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="NAME= takes it away")
    group.add_argument(
        "--env-from-secret", action="append", default=[], metavar="SECRET", help="AWS_ACCESS_KEY_ID and such; or none"
    )
    group.add_argument("--key-secret", metavar="SECRET[/KEY]", help="with a Google service account's key.json; or none")
    group.add_argument(
        "--signing-key", action="append", default=[], metavar="FILE", help="PEM: only versions signed by it; or none"
    )
    group.add_argument("--pull-secret", action="append", default=[], metavar="SECRET", help="for the image; or none")
    group.add_argument("--batching-parameters-file", metavar="FILE", help="BatchingParameters: turns batching on")
    group.add_argument(
        "--cache", metavar="VOLUME", help="emptyDir[:SIZE], memory:SIZE, pvc:CLAIM, hostPath:/FOLDER; default emptyDir"
    )
    group.add_argument("--cluster-local", action=argparse.BooleanOptionalAction, help="no address outside the cluster")
    group.add_argument(
        "--timeout", dest="timeout_seconds", type=int, metavar="SECONDS", help="of a request; default 300"
    )
    group.add_argument(
        "--ready-timeout", dest="progress_seconds", type=int, metavar="SECONDS", help=f"default {READY_SECONDS}"
    )


def declared(asked: argparse.Namespace, namespace: str, before: Declaration | None) -> Declaration:
    """What the command line makes of what was declared.

    Raises:
        DeployError: something in it makes no sense, or is missing.
    """
    old = None if asked.fresh else before
    changes: dict[str, Any] = {"deployment": _deployment(asked, namespace, old.deployment if old else None)}
    if asked.policy is not None:
        changes["versions"] = asked.policy
    if asked.overwritten is not None:
        changes["overwritten"] = asked.overwritten
    if asked.rollout is not None:
        policy = parse_policy(asked.rollout)
        # A split is of these versions, and says nothing about the next one.
        changes["rollout"] = (old.rollout if old else Keep()) if isinstance(policy, Split) else policy
    changes["labels"] = _labels(asked.label, old.labels if old else {})
    changes["gates"] = _gates(asked.gate, old.gates if old else {})
    if asked.sticky is not None:
        changes["sticky"] = _sticky(asked.sticky)
    if asked.shadow is not None:
        changes["shadow"] = _shadow(asked.shadow)
    return replace(old, **changes) if old else Declaration(**changes)


def asked_labels(asked: argparse.Namespace) -> frozenset[str]:
    """The labels that the command line names."""
    return frozenset(_pair(word, "--label")[0] for word in asked.label)


def _deployment(asked: argparse.Namespace, namespace: str, old: Deployment | None) -> Deployment:
    said = {name: value for name, value in vars(asked).items() if name in _DEPLOYMENT and value is not None}
    said |= {"name": asked.name, "namespace": namespace}
    if asked.url is not None:
        said["url"] = asked.url.rstrip("/") or asked.url
    if asked.key_secret is not None:
        said["key_secret"] = "" if asked.key_secret == NONE else asked.key_secret
    if asked.env_from_secret:
        said["environment_secrets"] = _several(asked.env_from_secret)
    if asked.pull_secret:
        said["pull_secrets"] = _several(asked.pull_secret)
    if asked.signing_key:
        said["signing_keys"] = _signing_keys(asked.signing_key)
    if asked.env:
        said["environment"] = _environment(asked.env, old.environment if old else {})
    if old is not None:
        return replace(old, **said)
    for name in ("url", "image"):
        if not said.get(name):
            option = "URL" if name == "url" else "--image=REGISTRY/zeroserve:TAG"
            raise DeployError(f"{asked.name}: {option} is missing, and nothing was declared before")
    return Deployment(**{"progress_seconds": READY_SECONDS, **said})


def _signing_keys(files: Sequence[str]) -> str:
    if list(files) == [NONE]:
        return ""
    from loader.signed_model import SigningKeys  # noqa: PLC0415  cryptography, for those who trust keys

    text = "".join(read_text(file, "--signing-key").strip() + "\n" for file in files)
    try:
        SigningKeys(text)
    except ValueError as error:
        raise DeployError(f"--signing-key: {error}") from None
    return text


def _environment(words: Sequence[str], old: Mapping[str, str]) -> dict[str, str]:
    found = dict(old)
    for word in words:
        name, value = _pair(word, "--env")
        found.pop(name, None)
        if value:
            found[name] = value
    return found


def _labels(words: Sequence[str], old: Mapping[str, int]) -> dict[str, int]:
    found = dict(old)
    for word in words:
        label, version = _pair(word, "--label")
        found.pop(label, None)
        if version and not (version.isascii() and version.isdecimal() and len(version) <= 19):
            raise DeployError(f"--label={word}: wanted NAME=VERSION, such as stable=3")
        if version:
            found[label] = int(version)
    return found


def _gates(words: Sequence[str], old: Mapping[str, Any]) -> dict[str, Any]:
    """`replay.rtol=0.01`: dots lead into objects. Values are JSON where they can be read as such, else text."""
    found: dict[str, Any] = json.loads(json.dumps(dict(old)))
    for word in words:
        name, value = _pair(word, "--gate")
        *path, last = name.split(".")
        inner = found
        for key in path:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise DeployError(f"--gate={word}: {key} is a value already")
        inner.pop(last, None)
        if value:
            inner[last] = _json_or_text(value)
    return found


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _sticky(text: str) -> Sticky | None:
    if text == NONE:
        return None
    kind, _, name = text.partition(":")
    return Sticky(kind, name.lower() if kind == "header" else name)


def _shadow(text: str) -> Shadow | None:
    if text == NONE:
        return None
    version, _, percent = text.partition(":")
    try:
        return Shadow(int(version), float(percent) if percent else 100.0)
    except ValueError:
        raise DeployError(f"--shadow={text}: wanted VERSION[:PERCENT], such as 3:10, or none") from None


def _several(words: Sequence[str]) -> tuple[str, ...]:
    return () if NONE in words else tuple(dict.fromkeys(words))


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise DeployError(f"{option} {text!r}: wanted NAME=VALUE")
    return name, value


def read_text(path: str, option: str) -> str:
    """The text of a file that an option names.

    Raises:
        DeployError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{option}={path}: cannot be read: {error}") from None
