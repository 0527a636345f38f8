"""The thin client: a few verbs of the Kubernetes API over HTTPS, with the standard library (docs/adr/0005).

Not safe for several threads: it keeps one connection.
"""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from knative import keys
from knative.error import DeployError
from knative.kubeconfig import Access
from knative.refusal import remedy

SERVING = "/apis/serving.knative.dev/v1"
CORE = "/api/v1"
SECONDS = 30
"""What the API server may take for one answer."""

ATTEMPTS = 4
"""How often a request is sent where the API server is busy, or the connection it kept is gone."""

MAX_ANSWER_BYTES = 64 << 20
"""Of one answer."""

ACCEPT = "application/json, application/jwk-set+json"
"""What we read; the keys that tokens are checked with have a media type of their own."""

_AGAIN = frozenset({429, 502, 503, 504})


class ApiError(DeployError):
    """The API server said no.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ConflictError(ApiError):
    """Somebody else wrote in between: look again, decide again."""


class Client:
    """Services, revisions, pods and ConfigMaps of one cluster."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._where = urlsplit(access.server)
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def service(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Service, or None where there is none of that name."""
        return self._found(_path(SERVING, namespace, "services", name))

    def services(self, namespace: str) -> list[dict[str, Any]]:
        """The Services that we made."""
        query = {"labelSelector": f"{keys.MANAGED_BY}={keys.FIELD_MANAGER}"}
        return self._items(_path(SERVING, namespace, "services"), query)

    def revision(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Revision, or None where there is none of that name."""
        return self._found(_path(SERVING, namespace, "revisions", name))

    def revisions(self, namespace: str, service: str) -> list[dict[str, Any]]:
        """The Revisions of a Service."""
        query = {"labelSelector": f"{keys.SERVICE}={service}"}
        return self._items(_path(SERVING, namespace, "revisions"), query)

    def pods(self, namespace: str, revision: str) -> list[dict[str, Any]]:
        """The pods of a Revision."""
        return self._items(_path(CORE, namespace, "pods"), {"labelSelector": f"{keys.REVISION}={revision}"})

    def warnings(self, namespace: str, kind: str, name: str) -> list[str]:
        """What the cluster's controllers warn of for one object, newest last; none where we may not read events."""
        fields = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
        try:
            found = self._items(_path(CORE, namespace, "events"), {"fieldSelector": fields})
        except ApiError:
            return []
        found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [str(event.get("message", "")) for event in found]

    def apply(self, manifest: Mapping[str, Any], *, resource_version: str = "") -> dict[str, Any]:
        """Server-side apply of a Service, as our own field manager; what we say wins.

        Args:
            resource_version: of the Service that the manifest was made for; empty where there was none.

        Raises:
            ConflictError: it is another one now.
        """
        path = _path(SERVING, manifest["metadata"]["namespace"], "services", manifest["metadata"]["name"])
        return self._applied(path, _of_version(manifest, resource_version), keys.FIELD_MANAGER)

    def check(self, manifest: Mapping[str, Any], *, resource_version: str = "") -> None:
        """Asks whether the cluster would take a Service, and changes nothing.

        Args:
            resource_version: as for `apply`.

        Raises:
            ConflictError: it is another one now.
            ApiError: it would not.
        """
        path = _path(SERVING, manifest["metadata"]["namespace"], "services", manifest["metadata"]["name"])
        self._applied(path, _of_version(manifest, resource_version), keys.FIELD_MANAGER, dry_run=True)

    def patch(self, namespace: str, name: str, patch: Mapping[str, Any], *, resource_version: str) -> dict[str, Any]:
        """A merge patch of the Service as it is in `resource_version`.

        Raises:
            ConflictError: it is another one now.
        """
        path = _path(SERVING, namespace, "services", name)
        body = _of_version(patch, resource_version)
        return self.json("PATCH", path, {"fieldManager": keys.FIELD_MANAGER}, body, "application/merge-patch+json")

    def config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A ConfigMap, or None where there is none of that name."""
        return self._found(_path(CORE, namespace, "configmaps", name))

    def config_maps(self, namespace: str) -> list[dict[str, Any]]:
        """The ConfigMaps of models: those that carry our label."""
        query = {"labelSelector": f"{keys.MANAGED_BY}={keys.FIELD_MANAGER}"}
        return self._items(_path(CORE, namespace, "configmaps"), query)

    def apply_config_map(
        self, manifest: Mapping[str, Any], manager: str, *, resource_version: str = ""
    ) -> dict[str, Any]:
        """Server-side apply of a ConfigMap. Keys that `manager` wrote before and does not say now go; others' stay.

        Args:
            manager: who writes these keys.
            resource_version: of the ConfigMap that the manifest was made for; empty for whatever is there.

        Raises:
            ConflictError: it is another one now.
        """
        path = _path(CORE, manifest["metadata"]["namespace"], "configmaps", manifest["metadata"]["name"])
        return self._applied(path, _of_version(manifest, resource_version), manager)

    def delete_config_map(self, namespace: str, name: str) -> None:
        """Deletes a ConfigMap."""
        self.json("DELETE", _path(CORE, namespace, "configmaps", name))

    def delete_revision(self, namespace: str, name: str) -> None:
        """Deletes a Revision with its pods."""
        self.json("DELETE", _path(SERVING, namespace, "revisions", name))

    def _applied(
        self, path: str, manifest: Mapping[str, Any], manager: str, *, dry_run: bool = False
    ) -> dict[str, Any]:
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        # The body is JSON, which is YAML too, and only the latter has a media type of its own here.
        return self.json("PATCH", path, query, manifest, "application/apply-patch+yaml")

    def delete(self, namespace: str, name: str) -> None:
        """Deletes a Service with all that belongs to it."""
        self.json("DELETE", _path(SERVING, namespace, "services", name))

    def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """What a pod answers to a GET, whatever its status; empty when it cannot be asked."""
        return self.pod_answer(namespace, pod, port, path)[1]

    def pod_answer(self, namespace: str, pod: str, port: int, path: str) -> tuple[int, bytes]:
        """Status and body of a pod's answer to a GET; the API server's own (502, 503) where the pod gives none.

        Status 0 where there is no answer at all.
        """
        try:
            return self._send("GET", f"{_path(CORE, namespace, 'pods', f'{pod}:{port}')}/proxy{path}", None, {}, 1)
        except DeployError:
            return 0, b""

    def json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        media_type: str = "application/json",
    ) -> dict[str, Any]:
        """One request.

        Raises:
            ApiError: the answer is not 2xx; the text is the API server's.
            DeployError: there is no answer.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": ACCEPT} | ({"Content-Type": media_type} if content else {})
        target = f"{path}?{urlencode(query)}" if query else path
        status, answer = self._send(method, target, content, headers, ATTEMPTS)
        try:
            found: dict[str, Any] = json.loads(answer)
        except ValueError:
            found = {"message": answer[:500].decode(errors="replace")}
        if not 200 <= status < 300:
            kind = ConflictError if status == http.HTTPStatus.CONFLICT else ApiError
            message = f"{method} {path}: {status} {found.get('message', '')}".rstrip()
            raise kind(status, f"{message}: {helps}" if (helps := remedy(message)) else message)
        return found

    def _found(self, path: str) -> dict[str, Any] | None:
        try:
            return self.json("GET", path)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def _items(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.json("GET", path, query).get("items") or []
        return items

    def _send(
        self, method: str, target: str, content: bytes | None, headers: Mapping[str, str], attempts: int
    ) -> tuple[int, bytes]:
        authorized = {**headers, **({"Authorization": f"Bearer {self._access.token}"} if self._access.token else {})}
        for attempt in range(1, attempts + 1):
            try:
                connection = self._connected()
                connection.request(method, self._where.path + target, content, authorized)
                response = connection.getresponse()
                body = response.read(MAX_ANSWER_BYTES)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt == attempts:
                    raise DeployError(f"the cluster at {self._access.server} does not answer: {error}") from None
            else:
                if response.status not in _AGAIN or attempt == attempts:
                    return response.status, body
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._where.hostname or "", self._where.port
            if self._access.tls is None:
                self._connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
            else:
                self._connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=self._access.tls)
        return self._connection


def _of_version(manifest: Mapping[str, Any], resource_version: str) -> Mapping[str, Any]:
    if not resource_version:
        return manifest
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": resource_version}}


def _path(group: str, namespace: str, kind: str, name: str = "") -> str:
    folder = f"{group}/namespaces/{quote(namespace, safe='')}/{kind}"
    return f"{folder}/{quote(name, safe=':')}" if name else folder
