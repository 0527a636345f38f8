"""The commands `zeroserve batch install|render|uninstall`: batch jobs on Knative, asked for by CloudEvents."""

import argparse
import json
import sys
import time
from collections.abc import Sequence

import yaml

from functions.commands.cluster_access import cluster, progress
from functions.commands.deploy_options import add_cluster
from knative.error import DeployError
from knative.job_sink import NAME, RETRIES, JobSink, manifests
from knative.job_sink_apply import address, apply, installed, remove

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
READY_SECONDS = 60.0
POLL_SECONDS = 0.5


def main(words: Sequence[str]) -> int:
    """Runs one command and gives its exit status; a failure is one line on standard error."""
    command, *rest = words
    try:
        return {"install": _install, "render": _render, "uninstall": _uninstall}[command](rest)
    except DeployError as error:
        print(f"zeroserve batch {command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def install_parser(command: str = "install") -> argparse.ArgumentParser:
    """Of `zeroserve batch install` and `render`."""
    parser = argparse.ArgumentParser(
        prog=f"zeroserve batch {command}",
        description="A JobSink that runs a job for each event of type com.zeroserve.batch.requested.v1. What follows "
        "-- goes to each job as it is: -- --model s3://models/resnet --allow s3://data/",
    )
    add_cluster(parser)
    parser.add_argument("--image", required=True, help="made from the Dockerfile's target predict")
    parser.add_argument("--name", default=NAME, help="of the JobSink (%(default)s)")
    parser.add_argument("--broker", default="", metavar="NAME", help="a Trigger brings its events; default: none")
    parser.add_argument("--sink", default="", metavar="URL", help="is told what became of each job")
    parser.add_argument("--service-account", default="", metavar="NAME", help="whose rights storage is reached with")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the storage's driver")
    parser.add_argument("--env-from-secret", action="append", default=[], metavar="SECRET", help="its keys, likewise")
    parser.add_argument("--volume", action="append", default=[], metavar="PATH=CLAIM", help="a claim to mount")
    parser.add_argument("--cpu", default="1", help="(%(default)s)")
    parser.add_argument("--memory", default="2Gi", help="(%(default)s)")
    parser.add_argument("--scratch", default="10Gi", metavar="SIZE", help="for models and parts (%(default)s)")
    parser.add_argument("--retries", type=int, default=RETRIES, metavar="N", help="of a failed job (%(default)s)")
    parser.add_argument("--seconds", type=int, default=0, metavar="N", help="longest that a job may take; 0: any time")
    parser.add_argument("-o", dest="output", choices=["yaml"], help="print the manifests, ask no cluster")
    parser.add_argument("--dry-run", action="store_true", help="ask the cluster whether it would, change nothing")
    parser.add_argument("words", nargs="*", metavar="-- WORD", help="of zeroserve batch: --model, --url, --allow, ...")
    return parser


def uninstall_parser() -> argparse.ArgumentParser:
    """Of `zeroserve batch uninstall`."""
    parser = argparse.ArgumentParser(prog="zeroserve batch uninstall", description="Takes it away, running jobs too.")
    add_cluster(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, change nothing")
    return parser


def _render(words: Sequence[str]) -> int:
    asked = install_parser("render").parse_args(words)
    _print(asked)
    return 0


def _install(words: Sequence[str]) -> int:
    asked = install_parser().parse_args(words)
    if asked.output:
        _print(asked)
        return 0
    with cluster(asked) as (client, namespace):
        wanted = _wanted(asked, namespace)
        for document in manifests(wanted):
            progress(f"{'would apply' if asked.dry_run else 'apply'} {document['kind']} {wanted.name}")
            apply(client, document, dry_run=asked.dry_run)
        if asked.dry_run:
            return 0
        end = time.monotonic() + READY_SECONDS
        while not (url := address(client, namespace, wanted.name)):
            if time.monotonic() > end:
                raise DeployError(
                    f"JobSink {wanted.name} has no address after {READY_SECONDS:g} s: kubectl describe jobsink "
                    f"{wanted.name} says why; is the deployment job-sink of Knative Eventing there?"
                )
            time.sleep(POLL_SECONDS)
        print(json.dumps({"name": wanted.name, "url": url}) if asked.json else url)
    return 0


def _uninstall(words: Sequence[str]) -> int:
    asked = uninstall_parser().parse_args(words)
    with cluster(asked) as (client, namespace):
        found = installed(client, namespace)
        for kind, name in found:
            progress(f"{'would delete' if asked.dry_run else 'delete'} {kind} {name}")
            if not asked.dry_run:
                remove(client, namespace, kind, name)
        if asked.json:
            print(json.dumps([{"kind": kind, "name": name} for kind, name in found]))
    return 0


def _print(asked: argparse.Namespace) -> None:
    print(yaml.safe_dump_all(manifests(_wanted(asked, asked.namespace or "default")), sort_keys=False), end="")


def _wanted(asked: argparse.Namespace, namespace: str) -> JobSink:
    _check_words(asked.words)
    return JobSink(
        namespace=namespace,
        image=asked.image,
        words=tuple(asked.words),
        name=asked.name,
        broker=asked.broker,
        sink=asked.sink,
        service_account=asked.service_account,
        environment=_pairs(asked.env, "--env"),
        environment_secrets=tuple(asked.env_from_secret),
        volumes=_pairs(asked.volume, "--volume"),
        cpu=asked.cpu,
        memory=asked.memory,
        scratch=asked.scratch,
        retries=asked.retries,
        seconds=asked.seconds,
    )


def _check_words(words: Sequence[str]) -> None:
    """Words that the job would refuse are refused here, where somebody reads it."""
    from functions.commands.batch import batch_parser  # noqa: PLC0415  it imports this module, when it is asked to

    given = batch_parser().parse_args(["--event", "-", *words])
    if given.inputs or given.restart or given.dry_run or given.sink:
        raise DeployError("the event names the inputs and whether to restart; --sink stands before --")
    if not given.allow:
        raise DeployError("no event could name any file: -- --allow s3://bucket/folder/ says what they may name")


def _pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise DeployError(f"{flag}={text}: wanted NAME=VALUE")
        found[name] = value
    return found
