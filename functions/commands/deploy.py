"""The commands `zeroserve deploy` and `zeroserve declare`."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import yaml

from events.aspired import Aspired, Overwritten, aspired
from events.gate_settings import gate_settings
from events.signed_versions import SignedMissing, Verdicts
from events.version_policy import parse_version_policy, version_policy_text
from events.wish import landed
from functions.commands.cluster_access import cluster, progress
from functions.commands.cluster_text import next_commands, status_json, status_text
from functions.commands.deploy_options import asked_labels, declared, deploy_parser, read_text
from functions.commands.deploy_settings import batching_environment, checked_environment, pod_cpus, with_concurrency
from functions.commands.rollout_follow import follow
from knative.client import Client
from knative.cloud_run import cloud_run_service
from knative.declaration import DECLARATION_KEY, Declaration, config_map, declaration_of, declaration_text
from knative.deployer import Deployer, Making
from knative.error import DeployError
from knative.kn import kn_commands
from knative.names import service_of_model, version_tag
from knative.observation import service_status
from knative.policy import AllAtOnce, Keep, Policy, Split, Steps, parse_policy
from knative.progression import begin, note
from knative.reading import Reading
from knative.rollout import Observed, SetTraffic, Stay, Wanted, deployed, foreign, is_known, plan
from knative.routes import routes_text
from knative.service import ROUTES_FILE, Version, manifest, revision
from knative.traffic import Traffic, block, in_words
from loader import completeness
from loader.status import ServingError
from loader.storage import open_storage

EXIT_FAILED = 1


def deploy(words: Sequence[str]) -> int:
    """From a model's storage path, or a config of several, to ready URLs."""
    asked = deploy_parser().parse_args(words)
    requests = _requests(asked)
    if asked.output:
        documents = [one for request in requests for one in _manifests(request)]
        if asked.output == "cloud-run":
            documents = [cloud_run_service(one) for one in documents if one["kind"] == "Service"]
        print(yaml.safe_dump_all(documents, sort_keys=False), end="")
        return 0
    with cluster(asked) as (client, namespace):
        return _each(requests, lambda request: _deploy_one(client, namespace, request))


def declare(words: Sequence[str]) -> int:
    """Writes what is wanted of a model; an upload deploys it."""
    asked = deploy_parser("declare").parse_args(words)
    with cluster(asked) as (client, namespace):
        return _each(_requests(asked), lambda request: _declare_one(client, namespace, request))


def _each(requests: Sequence[argparse.Namespace], act: Callable[[argparse.Namespace], int]) -> int:
    """Does one after the other; one that fails leaves the others alone."""
    status = 0
    for request in requests:
        try:
            status = max(status, act(request))
        except (DeployError, ServingError) as error:
            if len(requests) == 1:
                raise
            print(f"{request.name}: {error}", file=sys.stderr)
            status = EXIT_FAILED
    return status


def _requests(asked: argparse.Namespace) -> list[argparse.Namespace]:
    """One for each service.

    Raises:
        DeployError: neither NAME nor a config, or both.
    """
    if asked.batching_parameters_file:
        found = batching_environment(read_text(asked.batching_parameters_file, "--batching-parameters-file"))
        asked.env = [*(f"{name}={value}" for name, value in found.items()), *asked.env]
    if not asked.config:
        if not asked.name:
            raise DeployError("wanted NAME URL, or --config=FILE; zeroserve deploy --help says more")
        return [asked]
    if asked.name:
        raise DeployError(f"--config={asked.config} names the services: leave out {asked.name!r}")
    from loader.model_config import parse_model_config  # noqa: PLC0415  needs TensorFlow Serving's messages

    models = parse_model_config(read_text(asked.config, "--config"), path=asked.config) or []
    return [
        argparse.Namespace(
            **vars(asked)
            | {
                "name": service_of_model(model.name),
                "model": model.name,
                "url": model.base_path,
                "policy": version_policy_text(model.policy),
                "label": [*(f"{label}={version}" for label, version in model.labels.items()), *asked.label],
            }
        )
        for model in models
    ]


def _declaration(asked: argparse.Namespace, namespace: str, before: Declaration | None) -> Declaration:
    found = declared(asked, namespace, before)
    parse_version_policy(found.versions)
    gate_settings(found.gates)
    checked_environment(found.deployment.environment)
    if asked.concurrency is None and (before is None or asked.fresh or asked.env or asked.cpu):
        cpus = pod_cpus(found.deployment.cpu)
        found = replace(found, deployment=with_concurrency(found.deployment, cpus))
    return found


def _before(asked: argparse.Namespace, found: Reading) -> Declaration | None:
    """What is declared already.

    Raises:
        DeployError: it cannot be read, and `--fresh` does not say that it need not be.
    """
    if asked.fresh:
        return None
    try:
        return declaration_of(found.config)
    except DeployError as error:
        raise DeployError(f"{error}; --fresh forgets what was declared") from None


def _declare_one(client: Client, namespace: str, asked: argparse.Namespace) -> int:
    deployer = Deployer(client, namespace, progress)
    before = _before(asked, deployer.read(asked.name))
    if asked.dry_run:
        print(declaration_text(_declaration(asked, namespace, before)))
        return 0
    found = deployer.declare(asked.name, lambda now: _declaration(asked, namespace, now), forget=asked.fresh)
    if asked.json:
        print(declaration_text(found))
    else:
        print(f"{asked.name} is declared" + (" as it was" if found == before else ""))
    return 0


def _deploy_one(client: Client, namespace: str, asked: argparse.Namespace) -> int:
    deployer = Deployer(client, namespace, progress)
    before = deployer.read(asked.name)
    wanted = _declaration(asked, namespace, _before(asked, before))
    if wanted.deployment.min_scale and wanted.versions != "latest:1":
        progress(f"min scale {wanted.deployment.min_scale}: every version that is addressed holds so many pods")
    versions = _versions(wanted, before)
    _checked_labels(asked, wanted, versions, before)
    steps = plan(before.observed, _wish(asked, wanted, versions, before.observed))
    if before.observed.changed_by_others and not asked.adopt:
        progress(
            f"somebody else set the traffic ({in_words(before.observed.traffic)}): it stays; --adopt sets it as asked"
        )
    if asked.dry_run:
        _print_dry_run(asked, wanted, versions, before)
        return 0
    if not steps:
        progress("nothing to do")
    deployer.check(Making(wanted, versions), before, steps)
    wanted = deployer.declare(asked.name, lambda now: _declaration(asked, namespace, now), forget=asked.fresh)
    making = Making(wanted, versions, wanted.deployment.progress_seconds)

    def wish(reading: Reading, newest: Declaration | None) -> Wanted:
        return _wish(asked, newest or wanted, versions, reading.observed)

    now = deployer.carry_out(asked.name, wish, making, wait=not asked.no_wait, notes=_notes)
    if not asked.no_wait and follow(deployer, client, namespace, wanted, now) is not now:
        now = deployer.carry_out(asked.name, wish, making)  # what the way needed is not wanted at its end
    return _report(asked, deployer, now)


def _report(asked: argparse.Namespace, deployer: Deployer, now: Reading) -> int:
    if now.resource is None:
        return EXIT_FAILED
    status = service_status(now.resource, now.revisions, declaration_of(now.config))
    pods = {row.name: deployer.readiness.reasons(row.name) for row in status.revisions if not row.ready}
    if asked.json:
        print(json.dumps(status_json(status, pods), indent=1))
        return 0
    print(status_text(status, pods))
    if status.ready:
        print(next_commands(status))
    return 0


def _versions(wanted: Declaration, before: Reading) -> dict[int, Version]:
    """The versions in storage that are chosen and complete; those that are deployed stay what they were.

    Raises:
        ServingError: storage cannot be read.
        DeployError: there are none.
    """
    url, pem = wanted.deployment.url, wanted.deployment.signing_keys
    stands = landed(wanted.deployment.name, before.resource, before.revisions)
    found: Aspired = aspired(
        open_storage(url),
        parse_version_policy(wanted.versions),
        {number: one.fingerprint for number, one in stands.items()},
        SignedMissing(completeness.missing, pem, Verdicts()) if pem else completeness.missing,
        Overwritten(wanted.overwritten),
    )
    for line in (*found.notes, *(f"version {number} waits: {why}" for number, why in sorted(found.lacking.items()))):
        progress(line)
    if not found.versions:
        listed = ", ".join(map(str, sorted(found.listed))) or "none"
        raise DeployError(
            f"no complete version of {wanted.versions} under {url}: found {listed}; a version is a folder whose name "
            "is a number"
        )
    return {number: Version(number, fingerprint) for number, fingerprint in found.versions.items()}


def _checked_labels(
    asked: argparse.Namespace, wanted: Declaration, versions: Mapping[int, Version], before: Reading
) -> None:
    there = {*versions, *deployed(asked.name, before.observed.traffic)}
    for label in sorted(asked_labels(asked) & wanted.labels.keys()):
        if wanted.labels[label] not in there:
            raise DeployError(
                f"label {label}={wanted.labels[label]}: version {wanted.labels[label]} is not deployed and not chosen "
                f"by {wanted.versions}; these are: {', '.join(map(str, sorted(there)))}"
            )


def _wish(
    asked: argparse.Namespace, wanted: Declaration, versions: Mapping[int, Version], observed: Observed
) -> Wanted:
    there = {*versions, *deployed(asked.name, observed.traffic)}
    found = Wanted(
        asked.name,
        {number: revision(wanted.deployment, version) for number, version in versions.items()},
        # A label whose version is gone is kept in the declaration, and nothing carries its tag until it is back.
        {label: version for label, version in wanted.labels.items() if version in there},
        _said(asked, wanted),
        bool(getattr(asked, "adopt", False)),
    )
    if asked.rollout is None and is_known(observed, found):
        at_once = isinstance(wanted.rollout, Keep | AllAtOnce)
        return replace(found, policy=Keep() if at_once else Stay())
    return found


def _said(asked: argparse.Namespace, wanted: Declaration) -> Policy:
    policy = parse_policy(asked.rollout) if asked.rollout is not None else None
    return policy if isinstance(policy, Split) else wanted.rollout


def _notes(now: Reading, wanted: Wanted) -> dict[str, str]:
    """A rollout in steps is noted together with its first step."""
    if isinstance(wanted.policy, Steps) and not foreign(now.observed, wanted) and not is_known(now.observed, wanted):
        return note(begin(wanted.policy, wanted.revisions[max(wanted.revisions)], now.observed, time.time()))
    return {}


def _print_dry_run(
    asked: argparse.Namespace, wanted: Declaration, versions: Mapping[int, Version], before: Reading
) -> None:
    wish = _wish(asked, wanted, versions, before.observed)
    steps = plan(before.observed, wish)
    commands = kn_commands(asked.name, wanted.deployment.namespace, before.observed.traffic, steps)
    documents = _documents(wanted, versions, before.observed, wish)
    if asked.json:
        print(json.dumps({"commands": commands, "manifests": documents}, indent=1))
        return
    print("\n".join(f"# {command}" for command in commands) or "# nothing to do")
    print(yaml.safe_dump_all(documents, sort_keys=False), end="")


def _manifests(asked: argparse.Namespace) -> list[dict[str, object]]:
    wanted = _declaration(asked, asked.namespace or "default", None)
    nothing = Reading(None, (), Observed({}), None)
    versions = _versions(wanted, nothing)
    _checked_labels(asked, wanted, versions, nothing)
    return _documents(wanted, versions, nothing.observed, _wish(asked, wanted, versions, nothing.observed))


def _documents(
    wanted: Declaration, versions: Mapping[int, Version], observed: Observed, wish: Wanted
) -> list[dict[str, object]]:
    """The ConfigMap, then a Service for each revision, to be applied in this order; the last has the final traffic."""
    deployment = wanted.deployment
    final = observed.traffic
    for step in plan(observed, wish):
        final = step.traffic if isinstance(step, SetTraffic) else final
    made = {number: name for number, name in wish.revisions.items() if name not in observed.revisions}
    made = made or {max(wish.revisions): wish.revisions[max(wish.revisions)]}
    texts = {
        DECLARATION_KEY: declaration_text(wanted),
        ROUTES_FILE: routes_text(deployment.name, final, wanted),
    }
    documents: list[dict[str, object]] = [config_map(deployment.name, deployment.namespace, texts)]
    for number in sorted(made):
        there = {one: name for one, name in wish.revisions.items() if one <= number}
        before: Traffic = observed.traffic or block(
            {there[min(there)]: 100}, {version_tag(one): name for one, name in there.items()}
        )
        traffic = final if number == max(made) else before
        documents.append(manifest(deployment, versions[number], traffic, ours=not foreign(observed, wish)))
    return documents
