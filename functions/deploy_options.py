"""The words of `zeroserve deploy` and its kin, read into values."""

import argparse
from collections.abc import Sequence

from knative.error import DeployError
from knative.service import Deployment
from loader.policy import All, Latest, Specific, VersionPolicy

DEFAULT_IMAGE = ""
"""No registry has our image: `--image` says where yours is."""

READY_SECONDS = 600
"""What a revision gets to become ready."""


def deploy_parser() -> argparse.ArgumentParser:
    """The command line of `zeroserve deploy`."""
    parser = argparse.ArgumentParser(
        prog="zeroserve deploy", description="From a model's storage path to a ready URL on Knative."
    )
    parser.add_argument("name", metavar="NAME", help="of the service, and of the model unless --model says otherwise")
    parser.add_argument("url", metavar="URL", help="folder of the numbered versions: s3://bucket/m, gs://, https://")
    add_cluster(parser)
    parser.add_argument("--image", default=DEFAULT_IMAGE, help="made from the Dockerfile's target predict")
    parser.add_argument("--model", default="", help="name that requests call the model by")
    parser.add_argument("--policy", default="latest:1", help="versions: latest:N, all or specific:1,4 (%(default)s)")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VERSION", help="a tag; may be repeated")
    parser.add_argument(
        "--rollout", default="", metavar="all|canary=PERCENT|split=V:PERCENT,...", help="who gets the traffic"
    )
    parser.add_argument("--adopt", action="store_true", help="take over traffic that somebody else changed")
    parser.add_argument("--cpu", default="", help="request, such as 500m")
    parser.add_argument("--memory", default="", help="request and limit, such as 1Gi")
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="how many of --gpu-resource")
    parser.add_argument("--gpu-resource", default="nvidia.com/gpu", help="default %(default)s; a MIG device's name")
    parser.add_argument("--min-scale", type=int, default=0)
    parser.add_argument("--max-scale", type=int, default=0, help="0: no limit")
    parser.add_argument("--concurrency", type=int, default=0, help="requests in one pod at a time; 0: no limit")
    parser.add_argument(
        "--target", type=int, default=0, help="concurrency that the autoscaler aims at; 0: the cluster's"
    )
    parser.add_argument("--service-account", default="")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("--env-from-secret", action="append", default=[], metavar="SECRET", help="may be repeated")
    parser.add_argument("--cache", default="emptyDir", help="emptyDir, emptyDir:SIZE or pvc:CLAIM (%(default)s)")
    parser.add_argument("--cluster-local", action="store_true", help="no address outside the cluster")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS", help="of a request, cold start included")
    parser.add_argument(
        "--ready-timeout", type=int, default=READY_SECONDS, metavar="SECONDS", help="default %(default)s"
    )
    parser.add_argument("-o", dest="output", choices=["yaml"], help="print manifests, ask no cluster")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and the kn commands, change nothing")
    return parser


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """What every command about a cluster takes."""
    parser.add_argument("-n", "--namespace", default="", help="default: the context's")
    parser.add_argument("--kubeconfig", default="", help="default: $KUBECONFIG, the pod's own, ~/.kube/config")
    parser.add_argument("--context", default="", help="of the kubeconfig; default: its current one")
    parser.add_argument("--json", action="store_true", help="print JSON")


def deployment_of(asked: argparse.Namespace, namespace: str) -> Deployment:
    """The service that the command line describes.

    Raises:
        DeployError: something in it makes no sense.
    """
    return Deployment(
        name=asked.name,
        url=asked.url.rstrip("/"),
        image=asked.image,
        namespace=namespace,
        model=asked.model,
        cpu=asked.cpu,
        memory=asked.memory,
        gpus=asked.gpu,
        gpu_resource=asked.gpu_resource,
        min_scale=asked.min_scale,
        max_scale=asked.max_scale,
        concurrency=asked.concurrency,
        target=asked.target,
        service_account=asked.service_account,
        environment=dict(_pair(text, "--env") for text in asked.env),
        environment_secrets=tuple(asked.env_from_secret),
        cache=asked.cache,
        cluster_local=asked.cluster_local,
        timeout_seconds=asked.timeout,
        progress_seconds=asked.ready_timeout,
    )


def version_policy(text: str) -> VersionPolicy:
    """`latest:N`, `all` or `specific:1,4`.

    Raises:
        DeployError: anything else.
    """
    kind, _, argument = text.partition(":")
    if kind == "all" and not argument:
        return All()
    if kind == "latest" and (not argument or (argument.isdecimal() and int(argument))):
        return Latest(int(argument or 1))
    numbers = argument.split(",")
    if kind == "specific" and all(number.isdecimal() for number in numbers):
        return Specific(frozenset(map(int, numbers)))
    raise DeployError(f"--policy={text}: wanted latest:N, all or specific:1,4")


def labels(words: Sequence[str]) -> dict[str, int]:
    """Label -> version of words such as `stable=3`.

    Raises:
        DeployError: a word that is not a label and a number.
    """
    found = {}
    for word in words:
        label, version = _pair(word, "--label")
        if not version.isdecimal():
            raise DeployError(f"--label={word}: wanted NAME=VERSION, such as stable=3")
        found[label] = int(version)
    return found


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise DeployError(f"{option} {text!r}: wanted NAME=VALUE")
    return name, value
