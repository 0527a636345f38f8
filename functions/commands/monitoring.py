"""The command `zeroserve monitoring`: dashboards for Grafana, rules and scrape configs for Prometheus."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from functions.whole_file import write_whole
from knative.error import DeployError
from knative.monitoring.alerts import Objectives
from knative.monitoring.manifests import files, manifests
from knative.names import checked_namespace

EXIT_FAILED = 1

USAGE = """\
zeroserve monitoring: dashboards, alerts, and what to scrape

  zeroserve monitoring render            prints Kubernetes manifests: | kubectl apply -f -
  zeroserve monitoring render -o DIR     files for Grafana and Prometheus; --help says more
"""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"render": render_parser()}


def main(words: Sequence[str]) -> int:
    """Runs one command and gives its exit status; a failure is one line on standard error."""
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in {"--help", "-h"}:
        print(USAGE, end="")
        return 0
    try:
        if command != "render":
            raise DeployError(f"unknown command {command!r}: wanted render")
        return _render(rest)
    except (DeployError, OSError) as error:
        print(f"zeroserve monitoring {command}: {error}", file=sys.stderr)
        return EXIT_FAILED


def render_parser() -> argparse.ArgumentParser:
    """Of `zeroserve monitoring render`."""
    parser = argparse.ArgumentParser(
        prog="zeroserve monitoring render",
        description="Manifests for a cluster with Prometheus' operator and Grafana's sidecar, or with -o files: "
        "grafana/*.json, prometheus/*.yaml and kubernetes/*.yaml. Asks no cluster.",
    )
    parser.add_argument("-n", "--namespace", default="default", help="where the objects go, and whose pods are asked")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="pods of all namespaces are asked")
    parser.add_argument("-o", dest="folder", default="", metavar="DIR", help="default: manifests on standard output")
    promised = parser.add_argument_group("what is promised, for the alerts")
    promised.add_argument(
        "--objective", type=float, default=99.9, metavar="PERCENT", help="of requests without errors (%(default)s)"
    )
    promised.add_argument(
        "--latency", type=float, default=1.0, metavar="SECONDS", help="that 99%% of requests stay below (%(default)s)"
    )
    promised.add_argument(
        "--cold-start", type=float, default=30.0, metavar="SECONDS", help="that a start stays below (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="with -o: say which files, write none")
    parser.add_argument("--json", action="store_true", help="manifests, or the names of the files, as JSON")
    return parser


def _render(words: Sequence[str]) -> int:
    asked = render_parser().parse_args(words)
    wanted = Objectives(asked.objective / 100, asked.latency, asked.cold_start)
    namespace = checked_namespace(asked.namespace)
    if not asked.folder:
        found = manifests(namespace, wanted, everywhere=asked.all_namespaces)
        print(json.dumps(found, indent=1) if asked.json else yaml.safe_dump_all(found, sort_keys=False), end="")
        return 0
    folder = Path(asked.folder)
    made = files(namespace, wanted, everywhere=asked.all_namespaces)
    names = [str(folder / name) for name in made]
    if not asked.dry_run:
        for name, text in zip(names, made.values(), strict=True):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(name), text.encode())
    if asked.json:
        print(json.dumps({"would_write" if asked.dry_run else "wrote": names}))
    else:
        print("\n".join(f"{'would write' if asked.dry_run else 'wrote'} {name}" for name in names))
    return 0
