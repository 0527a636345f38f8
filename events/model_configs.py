"""A TensorFlow Serving config becomes declarations, one service for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from events.clients import Clients
from events.config_event import ModelWish
from events.error import MalformedError
from events.version_policy import version_policy_text
from knative import keys
from knative.client import Client
from knative.declaration import DECLARATION_KEY, Declaration, config_map, declaration_of, declaration_text
from knative.error import DeployError
from knative.names import checked_service


class ModelConfigs:
    """The declarations of one namespace, as a config changes them. Safe from any thread.

    Args:
        clients: of the cluster.
    """

    def __init__(self, clients: Clients, namespace: str) -> None:
        self._clients = clients
        self._namespace = namespace

    def declare(self, wishes: Sequence[ModelWish], like: str) -> list[str]:
        """Makes the config so, and gives the names of the services that changed; blocks.

        Args:
            wishes: the models.
            like: the service whose image, sizes and secrets a new model gets; empty for none.

        Raises:
            MalformedError: a model that nobody declared, and no service that it could be like.
            DeployError: the cluster cannot be asked, or somebody else changed a declaration meanwhile.
        """
        with self._clients.use() as client:
            versions: dict[str, str] = {}
            declared = []
            for config in client.config_maps(self._namespace):
                found = declaration_of(config)
                if found is not None:
                    declared.append(found)
                    versions[found.deployment.name] = config["metadata"]["resourceVersion"]
            changed = declarations(wishes, declared, like)
            for one in changed:
                self._write(client, one, versions.get(one.deployment.name, ""))
            return [one.deployment.name for one in changed]

    def _write(self, client: Client, declaration: Declaration, version: str) -> None:
        data = {DECLARATION_KEY: declaration_text(declaration)}
        manifest = config_map(declaration.deployment.name, self._namespace, data)
        client.apply_config_map(manifest, keys.FIELD_MANAGER, resource_version=version)


def declarations(wishes: Sequence[ModelWish], declared: Sequence[Declaration], like: str) -> list[Declaration]:
    """The declarations that change. Pure; arguments and errors as `ModelConfigs.declare`."""
    by_model = {one.deployment.model or one.deployment.name: one for one in declared}
    by_service = {one.deployment.name: one for one in declared}
    changed = []
    for wish in wishes:
        old = by_model.get(wish.name)
        try:
            new = _changed(wish, old) if old is not None else _new(wish, by_service, like)
        except DeployError as error:
            raise MalformedError(f"model {wish.name}: {error}") from None
        if new != old:
            changed.append(new)
    return changed


def _new(wish: ModelWish, by_service: Mapping[str, Declaration], like: str) -> Declaration:
    pattern = by_service.get(like)
    if pattern is None:
        raise MalformedError(
            f"model {wish.name} is not declared, and there is no service {like!r} that it could be deployed like: "
            "zeroserve declare"
        )
    name = checked_service(wish.name.lower().replace("_", "-"))
    if name in by_service:
        raise MalformedError(f"model {wish.name} would be service {name}, which serves another model")
    deployment = replace(pattern.deployment, name=name, model=wish.name, url=wish.url)
    return _changed(wish, replace(pattern, deployment=deployment, shadow=None, labels={}))


def _changed(wish: ModelWish, old: Declaration) -> Declaration:
    return replace(
        old,
        deployment=replace(old.deployment, url=wish.url),
        versions=version_policy_text(wish.policy),
        labels=dict(wish.labels),
    )
