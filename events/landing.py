"""Brings what lies in storage to the cluster: `advance` looks at one model and takes the next step, whatever it is.

Level-triggered: everything is read anew, nothing is remembered, and each write holds only if what it follows from is
still so. So events may be lost, doubled and out of order, and two copies of the function may run side by side: names of
revisions follow from their content, and the loser of a race reads again. docs/landing.md has the rules.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from events.aspired import Aspired, Missing, Overwritten, aspired
from events.clients import Clients
from events.declared import Declared, first_claim, noted_text, read_declared, write_claim, write_note
from events.gate_settings import gate_settings
from events.outcome import Outcome, State
from events.rollout_hook import Hold, Rollout, Situation, Stop, Told
from events.signed_versions import Refused, SignedMissing, Verdicts
from events.stores import Stores
from events.version_policy import parse_version_policy
from events.wish import Landed, failures, gone, landed, usable, wish
from knative import keys
from knative.client import Client, ConflictError
from knative.declaration import Declaration, config_map, declaration_of
from knative.error import DeployError
from knative.names import config_map_name
from knative.observation import observed
from knative.policy import Keep, Policy
from knative.rollout import Observed, Pin, SetTraffic, foreign, plan
from knative.routes import ROUTES_MANAGER, routes_text
from knative.service import ROUTES_FILE, Version, manifest, revision, traffic_patch
from knative.traffic import WHOLE, Traffic, TrafficTarget, in_words, shares
from loader import completeness

RACES = 6
"""How often a step is tried again because somebody else changed what it followed from."""

RACE_SECONDS = 0.05
"""Before the second try; longer before each further one."""

MAX_NOTE = 1000
"""Characters of the note on a Service that says what is wrong."""

_log = logging.getLogger("zeroserve.landing")

Emit = Callable[[str, str, Mapping[str, Any]], None]
"""Tells the world of a rollout: kind (`started`, `failed`), service, data."""


class Landing:
    """The declared services of one namespace. Safe from any thread.

    Args:
        clients: of the cluster.
        stores: of the models.
        rollout: decides how a version that is ready gets its traffic.
        emit: told when a rollout starts or fails.
        missing: proves versions complete.
    """

    def __init__(
        self,
        clients: Clients,
        namespace: str,
        stores: Stores,
        rollout: Rollout,
        *,
        emit: Emit = lambda kind, service, data: None,
        missing: Missing = completeness.missing,
    ) -> None:
        self.clients = clients
        self.namespace = namespace
        self.stores = stores
        self.rollout = rollout
        self.emit = emit
        self.missing = missing
        self.verdicts = Verdicts()

    def declared(self) -> tuple[Declared, ...]:
        """Every service that is declared, and where its model's versions lie; those that cannot be read are logged.

        Raises:
            DeployError: the cluster cannot be asked.
        """
        with self.clients.use() as client:
            return read_declared(client, self.namespace)

    def advance(self, service: str) -> Outcome:
        """Looks at storage and cluster, and takes the next step towards what is declared.

        Blocks for a listing, some small reads and a few requests; never for a revision to become ready.

        Raises:
            DeployError: the cluster cannot be asked, or refuses; or the declaration makes no sense.
            ServingError: storage cannot be asked.
        """
        with self.clients.use() as client:
            for race in range(1, RACES + 1):
                try:
                    return _Step(self, client, service).take()
                except ConflictError:
                    if race == RACES:
                        raise
                    time.sleep(RACE_SECONDS * race * (0.5 + random.random()))  # noqa: S311  no secret
        raise AssertionError("the last race returns or raises")


class _Step:
    """One step for one service, from one reading of the cluster."""

    def __init__(self, landing: Landing, client: Client, service: str) -> None:
        self._landing = landing
        self._client = client
        self._name = service
        self._namespace = landing.namespace
        self._config = client.config_map(self._namespace, config_map_name(service)) or {}
        self._resource = client.service(self._namespace, service)
        self._revisions: Sequence[Mapping[str, Any]] = (
            client.revisions(self._namespace, service) if self._resource is not None else ()
        )
        self._observed: Observed = observed(self._resource, self._revisions)
        self._refused: Mapping[int, Refused] = {}

    def take(self) -> Outcome:
        try:
            declaration = self._declaration()
        except DeployError as error:
            # Asking again helps nobody until somebody declares anew; the sweep looks then.
            text = f"nothing lands until it is declared anew: {error}"
            self._note([text], [{"reason": text}])
            return Outcome(State.FAILED, text)
        if declaration is None:
            return Outcome(State.UNDECLARED)
        stands = landed(self._name, self._resource, self._revisions)
        found = self._look(declaration, stands)
        names = {
            version: revision(declaration.deployment, Version(version, fingerprint))
            for version, fingerprint in found.versions.items()
        }
        failed = {name: why for name, why in failures(self._name, self._revisions).items() if name in names.values()}
        for version, refused in self._refused.items():
            failed[revision(declaration.deployment, Version(version, refused.fingerprint))] = refused.why
        lacking = {version: why for version, why in found.lacking.items() if version not in self._refused}
        created = self._create(declaration, found, names)
        if created:
            return Outcome(State.WORKING, f"revision {created} is created", lacking, (created,))
        ready = usable(self._name, names, self._observed)
        awaits = tuple(name for name in names.values() if not self._observed.revisions.get(name) and name not in failed)
        problems = [*(f"revision {name}: {why}" for name, why in sorted(failed.items())), *found.notes]
        traffic, again = self._observed.traffic, None
        if ready:
            traffic, again, stopped = self._move(declaration, found, ready)
            problems += [stopped] if stopped else []
        self._write_routes(declaration, traffic)
        self._note(problems, [{"revision": name, "reason": why} for name, why in failed.items()])
        text = "; ".join([*problems, *(f"version {version}: {why}" for version, why in lacking.items())])
        if awaits or again is not None:
            return Outcome(State.WORKING, text, lacking, awaits, again)
        return Outcome(State.FAILED if failed else State.DONE, text, lacking)

    def _declaration(self) -> Declaration | None:
        """What is declared, understood to its last word: half of a wish would deploy what nobody asked for."""
        found = declaration_of(self._config or None)
        if found is not None:
            parse_version_policy(found.versions)
            gate_settings(found.gates)
        return found

    def _look(self, declaration: Declaration, stands: Mapping[int, Landed]) -> Aspired:
        missing, pem = self._landing.missing, declaration.deployment.signing_keys
        if pem:
            missing = signed = SignedMissing(missing, pem, self._landing.verdicts)
            self._refused = signed.refused
        return aspired(
            self._landing.stores.of(declaration.deployment.url),
            parse_version_policy(declaration.versions),
            {version: one.fingerprint for version, one in stands.items()},
            missing,
            Overwritten(declaration.overwritten),
        )

    def _create(self, declaration: Declaration, found: Aspired, names: Mapping[int, str]) -> str:
        """Makes the lowest revision that is not there; its name, or empty where none is made.

        One at a time: the Service has one template, and a second one would replace it before a revision is made of it.
        """
        template = self._observed.template
        if template in names.values() and template not in self._observed.revisions:
            return ""
        missing = [version for version in sorted(names) if names[version] not in self._observed.revisions]
        if not missing:
            return ""
        version, name = missing[0], names[missing[0]]
        one = Version(version, found.versions[version])
        traffic = self._observed.traffic
        if self._resource is None:
            claim = first_claim(self._config, version)
            if not claim:
                write_claim(self._client, self._config, one)
            elif claim != one.fingerprint:
                one = Version(version, claim)
                name = revision(declaration.deployment, one)
            # The first revision of a service has nobody to leave the traffic with.
            traffic = (TrafficTarget(name, WHOLE),)
        ours = self._resource is None or not self._observed.changed_by_others
        body = manifest(declaration.deployment, one, traffic, ours=ours)
        self._write(lambda version: self._client.apply(body, resource_version=version))
        _log.info("%s: revision %s is created for version %d", self._name, name, version)
        self._landing.emit("started", self._name, {"revision": name, "version": version})
        return name

    def _read_version(self) -> str:
        """The resourceVersion of the Service that was read; empty where there was none."""
        found: str = (self._resource or {}).get("metadata", {}).get("resourceVersion", "")
        return found

    def _move(
        self, declaration: Declaration, found: Aspired, ready: Mapping[int, str]
    ) -> tuple[Traffic, float | None, str]:
        """Writes the traffic that is due. Returns what it is then, when to ask again, and why it is to stop."""
        percents = shares(self._observed.traffic)
        version = max(ready)
        new = ready[version]
        policy: Policy | Pin = Keep()
        annotations: Mapping[str, str] = {}
        again, stopped = None, ""
        told: Sequence[Told] = ()
        if percents.get(new) != WHOLE and not gone(self._name, self._observed, found.listed):
            decision = self._landing.rollout.decide(self._situation(declaration, percents, new, version))
            if isinstance(decision, Hold):
                _log.info("%s: %s is held: %s", self._name, new, decision.why)
                return self._observed.traffic, decision.again, ""
            if isinstance(decision, Stop):
                if self._news(decision.annotations):
                    self._patch({"metadata": {"annotations": dict(decision.annotations)}})
                    self._tell(decision.told)
                return self._observed.traffic, decision.again, f"{new} is stopped: {decision.why}"
            policy, annotations, again = decision.policy, decision.annotations, decision.again
            told = decision.told
        wanted = wish(self._name, ready, self._observed, found.listed, labels=declaration.labels, policy=policy)
        # Revisions that nobody needs are left to Knative: somebody may want one back.
        step = next((step for step in plan(self._observed, wanted) if isinstance(step, SetTraffic)), None)
        if step is not None:
            patch = traffic_patch(
                step.traffic, ours=not foreign(self._observed, wanted), previous=step.previous or None
            )
            patch["metadata"]["annotations"] |= annotations
            self._patch(patch)
            _log.info("%s: traffic: %s", self._name, in_words(step.traffic))
            self._tell(told)
            return step.traffic, again, stopped
        if self._news(annotations):
            self._patch({"metadata": {"annotations": dict(annotations)}})
            self._tell(told)
        return self._observed.traffic, again, stopped

    def _tell(self, told: Sequence[Told]) -> None:
        for kind, data in told:
            self._landing.emit(kind, self._name, data)

    def _situation(self, declaration: Declaration, percents: Mapping[str, int], new: str, version: int) -> Situation:
        others = {name: percent for name, percent in percents.items() if name != new}
        old = max(others, key=lambda name: (others[name], name)) if others else None
        assert self._resource is not None  # noqa: S101  it has a revision
        return Situation(
            self._namespace, declaration, self._resource, self._revisions, self._observed, old, new, version
        )

    def _annotations(self) -> Mapping[str, str]:
        found: Mapping[str, str] = (self._resource or {}).get("metadata", {}).get("annotations") or {}
        return found

    def _news(self, annotations: Mapping[str, str]) -> bool:
        return any(self._annotations().get(name) != value for name, value in annotations.items())

    def _note(self, problems: Sequence[str], told: Sequence[Mapping[str, Any]]) -> None:
        """Writes on the Service what is wrong, or on the ConfigMap where there is none yet; takes it away later.

        Args:
            problems: in words.
            told: data of the events that the world gets once that is written; nobody is told twice.
        """
        text = "; ".join(problems)[:MAX_NOTE]
        waiting = noted_text(self._config)
        before = waiting if self._resource is None else self._annotations().get(keys.LANDING, "")
        if self._resource is not None and before != text:
            self._patch({"metadata": {"annotations": {keys.LANDING: text or None}}})
        if waiting != (here := text if self._resource is None else ""):
            write_note(self._client, self._config, here)
        if text and text != before:
            _log.warning("%s: %s", self._name, text)
            for data in told:
                self._landing.emit("failed", self._name, data)

    def _patch(self, patch: dict[str, Any]) -> None:
        """Changes the Service, and takes the answer for what is read now."""
        self._resource = self._write(
            lambda version: self._client.patch(self._namespace, self._name, patch, resource_version=version)
        )

    def _write(self, write: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """Writes if the Service is still what was read; what Knative says of its status meanwhile does not count.

        Raises:
            ConflictError: somebody changed what was wanted of it.
        """
        for race in range(1, RACES + 1):
            try:
                return write(self._read_version())
            except ConflictError:
                fresh = self._client.service(self._namespace, self._name)
                if (
                    race == RACES
                    or fresh is None
                    or self._resource is None
                    or _wanted(fresh) != _wanted(self._resource)
                ):
                    raise
                self._resource = fresh
        raise AssertionError("the last race returns or raises")

    def _write_routes(self, declaration: Declaration, traffic: Traffic) -> None:
        if not traffic:
            return
        text = routes_text(self._name, traffic, declaration)
        if (self._config.get("data") or {}).get(ROUTES_FILE) != text:
            self._client.apply_config_map(config_map(self._name, self._namespace, {ROUTES_FILE: text}), ROUTES_MANAGER)


def _wanted(resource: Mapping[str, Any]) -> tuple[Any, Any]:
    """What somebody said of a Service, without what the cluster says."""
    return resource["spec"], resource["metadata"].get("annotations")
