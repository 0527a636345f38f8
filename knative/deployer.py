"""What acts: reads a service, carries a wish out step by step, writes traffic and routes together.

After each step everything is read and planned anew, and each write holds only if what it follows from is still so: of
two that deploy at once neither loses what the other did.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from knative import keys
from knative.client import Client, ConflictError
from knative.declaration import DECLARATION_KEY, Declaration, config_map, declaration_of, declaration_text
from knative.error import DeployError
from knative.names import config_map_name
from knative.observation import traffic_owner
from knative.policy import Keep, Split
from knative.readiness import NotReadyError, Progress, Readiness
from knative.reading import Reading, read
from knative.rollout import (
    AwaitReady,
    CreateRevision,
    DeleteRevision,
    SetTraffic,
    Step,
    Wanted,
    foreign,
    plan,
)
from knative.routes import ROUTES_MANAGER, routes_text
from knative.service import ROUTES_FILE, Version, manifest, traffic_patch
from knative.traffic import Traffic, in_words

ROUNDS = 200
"""Steps of one wish, races that were lost included."""

RACES = 8
"""How often a change of a declaration is tried again because somebody else changed it."""


@dataclass(frozen=True, slots=True)
class Making:
    """What revisions are made from.

    Attributes:
        declaration: of the service; None where none is to be made.
        versions: by their numbers.
        seconds: what a revision gets to become ready.
    """

    declaration: Declaration | None = None
    versions: Mapping[int, Version] = field(default_factory=dict)
    seconds: float = 600.0


class Deployer:
    """Services of one namespace.

    Args:
        client: of the cluster.
        progress: told in one line what is being done.
    """

    def __init__(self, client: Client, namespace: str, progress: Progress) -> None:
        self._client = client
        self._namespace = namespace
        self._progress = progress
        self.readiness = Readiness(client, namespace, progress)

    def read(self, name: str) -> Reading:
        """A service as it is now."""
        return read(self._client, self._namespace, name)

    def existing(self, name: str) -> Reading:
        """A service as it is now.

        Raises:
            DeployError: there is none.
        """
        found = self.read(name)
        if found.resource is None:
            raise DeployError(
                f"no service {name!r} in namespace {self._namespace!r}: zeroserve list shows those there are"
            )
        return found

    def declare(
        self, name: str, change: Callable[[Declaration | None], Declaration], *, forget: bool = False
    ) -> Declaration:
        """Changes what is declared of a service, and nothing else.

        Args:
            change: makes the new declaration of the one there is; called again if that one was changed meanwhile.
            forget: what is there does not count, and need not be readable.

        Raises:
            DeployError: the declaration there is cannot be read.
        """
        for race in range(1, RACES + 1):
            config = self._client.config_map(self._namespace, config_map_name(name))
            before = None if forget else declaration_of(config)
            after = change(before)
            if after == before:
                return after
            body = config_map(name, self._namespace, {DECLARATION_KEY: declaration_text(after)})
            version = (config or {}).get("metadata", {}).get("resourceVersion", "")
            try:
                self._client.apply_config_map(body, keys.FIELD_MANAGER, resource_version=version)
            except ConflictError:
                if race == RACES:
                    raise
            else:
                return after
        raise AssertionError("the last race returns or raises")

    def check(self, making: Making, now: Reading, steps: Sequence[Step]) -> None:
        """Asks the cluster whether it takes the first revision that is to be made: a wish it refuses is not kept.

        Raises:
            DeployError: it does not, and why.
        """
        for step in steps:
            if isinstance(step, CreateRevision) and making.declaration is not None:
                version = making.versions[step.version]
                body = manifest(making.declaration.deployment, version, step.traffic)
                with contextlib.suppress(ConflictError):  # then it is seen when it is done
                    self._client.check(body, resource_version=now.version)
                return

    def carry_out(
        self,
        name: str,
        wish: Callable[[Reading, Declaration | None], Wanted],
        making: Making,
        *,
        wait: bool = True,
        notes: Callable[[Reading, Wanted], Mapping[str, str]] = lambda now, wanted: {},
    ) -> Reading:
        """Brings a service to what is wanted. A version that does not become ready is left out, and traffic with it.

        Args:
            name: of the service.
            wish: what is wanted, given what is there and what is declared by now; asked anew after each step, so that
                of two who declare at once both are obeyed.
            making: what revisions are made from; its declaration counts where none is kept.
            wait: whether to stay until the traffic is set; else only the revisions are asked for.
            notes: annotations of the Service that are written together with the traffic.

        Raises:
            NotReadyError: a version did not become ready; what could be done beside it is done.
            DeployError: the cluster refuses, or somebody else's changes do not end.
        """
        failed: dict[str, NotReadyError] = {}
        begun = ""
        for _ in range(ROUNDS):
            now = self.read(name)
            begun = self._same_service(name, now, begun)
            making = replace(making, declaration=declaration_of(now.config) or making.declaration)
            wanted = without(wish(now, making.declaration), failed)
            step = self._next(now, wanted, failed, wait=wait)
            if step is None:
                break
            try:
                self._take(step, now, wanted, making, notes)
            except ConflictError:
                continue  # the cluster's own controllers write too: all is read and planned anew
            except NotReadyError as error:
                failed[error.revision] = error
                self._progress(f"{error.revision} is left out, and traffic with it")
        else:
            raise DeployError(f"service {name} is changed again and again by somebody else: try later")
        self.write_routes(name, now.observed.traffic, making.declaration)
        if failed:
            raise next(iter(failed.values()))
        if wait:
            self.readiness.await_service(name)
        return self.read(name)

    def _same_service(self, name: str, now: Reading, begun: str) -> str:
        """The Service's uid; a service that went away meanwhile must not come back through us."""
        uid: str = (now.resource or {}).get("metadata", {}).get("uid", "")
        if begun and uid != begun:
            raise DeployError(
                f"service {name} was deleted by somebody else meanwhile: run the command again to make it"
            )
        return uid

    def _next(self, now: Reading, wanted: Wanted, failed: Mapping[str, object], *, wait: bool) -> Step | None:
        for step in plan(now.observed, wanted) if wanted.revisions else ():
            if isinstance(step, DeleteRevision) and step.name in failed:
                continue  # it still has to say why
            if wait or isinstance(step, CreateRevision):
                return step
        return None

    def _take(
        self,
        step: Step,
        now: Reading,
        wanted: Wanted,
        making: Making,
        notes: Callable[[Reading, Wanted], Mapping[str, str]],
    ) -> None:
        ours = not foreign(now.observed, wanted)
        owner = "" if ours or now.resource is None else traffic_owner(now.resource)
        match step:
            case CreateRevision(name, version, traffic):
                if making.declaration is None:
                    raise DeployError(f"nothing is declared to make revision {name} from: zeroserve deploy does both")
                self._progress(f"create revision {name}")
                body = manifest(
                    making.declaration.deployment, making.versions[version], traffic, ours=ours, owner=owner
                )
                self._client.apply(body, resource_version=now.version)
                self.readiness.await_made(wanted.service, name)
            case AwaitReady(name):
                self.readiness.await_revision(name, making.seconds)
            case SetTraffic(traffic, previous):
                patch = traffic_patch(traffic, ours=ours, owner=owner, previous=previous)
                patch["metadata"]["annotations"] |= notes(now, wanted)
                self.write_traffic(wanted.service, now, patch, traffic, making.declaration)
            case DeleteRevision(name):
                # The ingress may still send it requests until it follows the new block.
                self.readiness.await_service(wanted.service)
                self._progress(f"delete revision {name}")
                self._client.delete_revision(self._namespace, name)

    def write_traffic(
        self,
        name: str,
        now: Reading,
        patch: Mapping[str, Any],
        traffic: Traffic,
        declaration: Declaration | None,
        *,
        tell: bool = True,
    ) -> None:
        """Writes a patch that sets `traffic`, and the routes that follow from it.

        Raises:
            ConflictError: the service is not what was read any more; nothing is written.
        """
        self._client.patch(self._namespace, name, patch, resource_version=now.version)
        if tell:
            self._progress(f"traffic: {in_words(traffic)}")
        self.write_routes(name, traffic, declaration)

    def write_routes(self, name: str, traffic: Traffic, declaration: Declaration | None) -> None:
        """Writes what pods know about each other, if it is not what is there."""
        if not traffic:
            return
        text = routes_text(name, traffic, declaration)
        config = self._client.config_map(self._namespace, config_map_name(name)) or {}
        if (config.get("data") or {}).get(ROUTES_FILE) != text:
            self._client.apply_config_map(config_map(name, self._namespace, {ROUTES_FILE: text}), ROUTES_MANAGER)

    def belongings(self, name: str) -> list[str]:
        """What `delete` deletes, in words.

        Raises:
            DeployError: nothing of it is there.
        """
        found = self.read(name)
        if found.config is None:
            found = self.existing(name)
        return [
            *([f"configmap {config_map_name(name)}"] if found.config else []),
            *([f"service {name}"] if found.resource else []),
            *(f"revision {one['metadata']['name']}" for one in found.revisions),
        ]

    def delete(self, name: str) -> None:
        """Deletes a service with its revisions and its ConfigMap, declaration included."""
        found = self.read(name)
        if found.config is not None:
            # First: an upload in this moment must not bring the service back.
            self._client.delete_config_map(self._namespace, config_map_name(name))
        if found.resource is not None:
            self._client.delete(self._namespace, name)


def without(wanted: Wanted, failed: Mapping[str, object]) -> Wanted:
    """The wish without revisions that do not become ready; without its highest, traffic stays as it is."""
    left = {version: name for version, name in wanted.revisions.items() if name not in failed}
    if len(left) == len(wanted.revisions):
        return wanted
    gone = wanted.revisions.keys() - left.keys()
    labels = {label: version for label, version in wanted.labels.items() if version not in gone}
    highest_failed = max(wanted.revisions) in gone
    split_failed = isinstance(wanted.policy, Split) and bool(gone & wanted.policy.percents.keys())
    policy = Keep() if highest_failed or split_failed else wanted.policy
    return replace(wanted, revisions=left, labels=labels, policy=policy)
