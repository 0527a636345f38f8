"""The command `zeroserve events`: what makes an upload deploy, put onto a cluster, looked at, and taken away."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from events import azure, config_event, gcs, own_event, s3
from events.decode import KNATIVE_QUEUE
from events.sender import parse_secrets
from functions.commands.deploy_options import add_cluster
from functions.config import cluster_environment
from knative import eventing_apply, kubeconfig
from knative.client import Client
from knative.error import DeployError
from knative.eventing import FUNCTION, PING_TYPE, Installation
from knative.eventing_apply import Part
from loader.store import shown_host

EVENT_TYPES = (
    own_event.CREATED,
    own_event.REMOVED,
    own_event.SWEEP,
    config_event.TYPE,
    PING_TYPE,
    gcs.FINALIZED,
    *sorted(gcs.DELETED),
    gcs.PUBLISHED,
    f"{s3.ADAPTER}*",
    f"{azure.PREFIX}*",
    *sorted(KNATIVE_QUEUE),
)
"""What the deploy function is sent: every type that a decoder here understands; one that ends in `*` is a prefix."""

READY_SECONDS = 180.0
POLL_SECONDS = 1.0

NUDGE_SECONDS = 5.0
"""Between two requests to look at the Trigger again."""

FATAL_SECONDS = 20.0
"""How long a reason that waiting does not cure is watched before it is believed."""

EXIT_FAILED = 1

USAGE = """\
zeroserve events: an upload deploys: storage's events become revisions

  zeroserve events install --image I     the broker, the deploy function, the sweep, and their rights; --help says more
  zeroserve events status                what of it is there, and what is missing
  zeroserve events uninstall             takes it away; services of models stay
"""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"install": _install_parser(), "status": _status_parser(), "uninstall": _uninstall_parser()}


def main(words: Sequence[str]) -> int:
    """Runs one command and gives its exit status; a failure is one line on standard error."""
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in {"--help", "-h"}:
        print(USAGE, end="")
        return 0
    try:
        if command not in _COMMANDS:
            raise DeployError(f"unknown command {command!r}: wanted {', '.join(_COMMANDS)}")
        return _COMMANDS[command](rest)
    except (DeployError, OSError, ValueError) as error:
        print(f"zeroserve events {command}: {error}", file=sys.stderr)
        return EXIT_FAILED


def _install(words: Sequence[str]) -> int:
    asked = _install_parser().parse_args(words)
    given = _given_secret(asked.secret_file)
    if asked.output:
        installation = _installation(asked, asked.namespace or "default", _audience(asked, None))
        secret = given or eventing_apply.new_secret() if installation.audience else ""
        print(yaml.safe_dump_all(eventing_apply.manifests(installation, secret), sort_keys=False), end="")
        return 0
    with _client(asked) as (client, namespace):
        installation = _installation(asked, namespace, _audience(asked, client))
        secret = _secret(client, installation, given)
        documents = eventing_apply.manifests(installation, secret)
        surplus = eventing_apply.left_over(client, namespace, documents)
        if asked.dry_run:
            for verb, manifests in (("apply", documents), ("delete", surplus)):
                for manifest in manifests:
                    print(f"{verb} {manifest['kind']} {manifest['metadata']['name']}")
            return 0
        for manifest in documents:
            _progress(f"apply {manifest['kind']} {manifest['metadata']['name']}")
            eventing_apply.apply(client, manifest)
        for manifest in surplus:
            _progress(f"delete {manifest['kind']} {manifest['metadata']['name']}")
            eventing_apply.remove(client, manifest)
        return _print_parts(client, namespace, _await(client, documents, asked.ready_timeout), as_json=asked.json)


def _audience(asked: argparse.Namespace, client: Client | None) -> str:
    """Whom senders' tokens are to be for; empty where everybody in the cluster may send.

    Raises:
        DeployError: the cluster makes no such tokens, and nobody said that this is all right.
    """
    if asked.anonymous_events and (asked.oidc_audience or asked.secret_file):
        raise DeployError("--anonymous-events goes with neither --oidc-audience nor --secret-file")
    if asked.anonymous_events:
        return ""
    if asked.oidc_audience:
        return str(asked.oidc_audience)
    if client is not None and eventing_apply.proves_senders(client):
        return FUNCTION
    raise DeployError(
        "who sends cannot be told: Knative Eventing's feature authentication-oidc is not enabled here; enable it (then "
        "--oidc-audience=NAME), or let whatever reaches the function send: --anonymous-events. It has no address "
        "outside the cluster, and an event only makes it look at storage"
    )


def _secret(client: Client, installation: Installation, given: str) -> str:
    """The secret to apply; empty where there is to be none, or the one that is there stays."""
    if not installation.audience or (not given and eventing_apply.has_secret(client, installation.namespace)):
        return ""
    return given or eventing_apply.new_secret()


def _status_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zeroserve events status", description="What is installed, what is missing.")
    add_cluster(parser)
    return parser


def _status(words: Sequence[str]) -> int:
    asked = _status_parser().parse_args(words)
    with _client(asked) as (client, namespace):
        return _print_parts(client, namespace, eventing_apply.parts(client, namespace), as_json=asked.json)


def _uninstall_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve events uninstall", description="Takes away what install made. Services of models stay."
    )
    add_cluster(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, change nothing")
    return parser


def _uninstall(words: Sequence[str]) -> int:
    asked = _uninstall_parser().parse_args(words)
    with _client(asked) as (client, namespace):
        found = eventing_apply.installed(client, namespace)
        if not asked.dry_run:
            for manifest in found:
                _progress(f"delete {manifest['kind']} {manifest['metadata']['name']}")
                eventing_apply.remove(client, manifest)
    names = [f"{manifest['kind']} {manifest['metadata']['name']}" for manifest in found]
    if asked.json:
        print(json.dumps({"deleted" if not asked.dry_run else "would_delete": names}))
    elif asked.dry_run:
        print("\n".join(f"delete {name}" for name in names) or "nothing to do")
    return 0


_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "install": _install,
    "status": _status,
    "uninstall": _uninstall,
}


def _install_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve events install",
        description="An upload deploys: applies the broker, the deploy function that its trigger wakes, the sweep that "
        "heals lost events, watchers of storage that sends none, and the rights that all this needs.",
    )
    add_cluster(parser)
    parser.add_argument("--image", default="", help="made from the Dockerfile's target deploy")
    parser.add_argument("--sweep", default="*/1 * * * *", metavar="CRON", help="default '%(default)s'; '' for none")
    parser.add_argument(
        "--watch", action="append", default=[], metavar="URL", help="storage that sends no events; may be repeated"
    )
    parser.add_argument(
        "--watch-volume", action="append", default=[], metavar="CLAIM=PATH", help="volume that watchers mount"
    )
    parser.add_argument("--dead-letter", default="", metavar="URL", help="gets events that could not be delivered")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="storage's; may be repeated")
    parser.add_argument("--env-from-secret", action="append", default=[], metavar="SECRET", help="may be repeated")
    parser.add_argument(
        "--annotation",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the service account: a cloud's workload identity",
    )
    parser.add_argument("--secret-file", default="", metavar="FILE", help="for webhooks; default: a new random one")
    parser.add_argument(
        "--oidc-audience",
        default="",
        metavar="NAME",
        help=f"of the tokens that senders must show; default {FUNCTION} where Eventing has authentication-oidc",
    )
    parser.add_argument(
        "--anonymous-events", action="store_true", help="whatever reaches the function may send: the cluster only"
    )
    parser.add_argument("--max-scale", type=int, default=3, metavar="N", help="of the deploy function (%(default)s)")
    parser.add_argument("--ready-timeout", type=float, default=READY_SECONDS, metavar="SECONDS")
    parser.add_argument("-o", dest="output", choices=["yaml"], help="print manifests, ask no cluster")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, change nothing")
    return parser


def _installation(asked: argparse.Namespace, namespace: str, audience: str) -> Installation:
    volumes = {path: claim for claim, path in (_pair(text, "--watch-volume") for text in asked.watch_volume)}
    return Installation(
        namespace=namespace,
        image=asked.image,
        types=EVENT_TYPES,
        sweep=asked.sweep,
        watch=tuple(asked.watch),
        watch_volumes=volumes,
        dead_letter=asked.dead_letter,
        environment=dict(_pair(text, "--env") for text in asked.env),
        environment_secrets=tuple(asked.env_from_secret),
        annotations=dict(_pair(text, "--annotation") for text in asked.annotation),
        audience=audience,
        max_scale=asked.max_scale,
    )


def _given_secret(file: str) -> str:
    if not file:
        return ""
    text = Path(file).read_text()
    if not parse_secrets(text):
        raise DeployError(f"--secret-file={file}: it is empty")
    return text


def _await(client: Client, documents: Sequence[Mapping[str, Any]], seconds: float) -> list[Part]:
    """The parts once all are ready, once one never will be, or after so many seconds."""
    end, nudge_at = time.monotonic() + seconds, 0.0
    said, hopeless_since = "", None
    while True:
        found = [
            eventing_apply.part(client, one["kind"], one["metadata"]["namespace"], one["metadata"]["name"])
            for one in documents
        ]
        missing = "; ".join(f"{one.kind} {one.name} {one.reason}".rstrip() for one in found if not one.ready)
        now = time.monotonic()
        # A pull that fails is tried again, and may do the next time.
        hopeless_since = (hopeless_since or now) if any(one.fatal for one in found) else None
        if not missing or now > end or (hopeless_since is not None and now - hopeless_since > FATAL_SECONDS):
            return found
        if missing != said:
            _progress(f"wait for {missing}")
            said = missing
        if {one.kind for one in found if not one.ready} == {"Trigger"} and now > nudge_at:
            eventing_apply.nudge(client, documents[0]["metadata"]["namespace"])
            nudge_at = now + NUDGE_SECONDS
        time.sleep(POLL_SECONDS)


def _print_parts(client: Client, namespace: str, parts: Sequence[Part], *, as_json: bool) -> int:
    address = eventing_apply.address(client, namespace)
    ready = all(part.ready for part in parts)
    if as_json:
        print(json.dumps({"ready": ready, "broker": address, "parts": [asdict(part) for part in parts]}, indent=1))
    else:
        for part in parts:
            state = "ready" if part.ready else "not ready" if part.there else "missing"
            print(f"{state:9}  {part.kind} {part.name}  {part.reason}".rstrip())
        if address:
            print(f"CloudEvents to   {shown_host(address)}")
            print(f"webhooks to      http://{FUNCTION}.{namespace}.svc.cluster.local/")
    return 0 if ready else EXIT_FAILED


@contextlib.contextmanager
def _client(asked: argparse.Namespace) -> Iterator[tuple[Client, str]]:
    environment = cluster_environment()
    access = kubeconfig.read(asked.kubeconfig or environment.get("KUBECONFIG", ""), environment, asked.context)
    client = Client(access)
    try:
        yield client, asked.namespace or access.namespace
    finally:
        client.close()


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise DeployError(f"{option} {text!r}: wanted NAME=VALUE")
    return name, value


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
