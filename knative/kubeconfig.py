"""Where the cluster is and who we are there: a kubeconfig file, or what a pod finds.

Source: kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig, .../access-authn-authz
(client-go credential plugins), .../run-application/access-api-from-pod.
"""

import base64
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from knative.error import DeployError

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PLUGIN_SECONDS = 60
"""What a credential plugin may take."""


@dataclass(frozen=True, slots=True)
class Access:
    """One cluster as one user.

    Attributes:
        server: `https://host:port`, perhaps with a path.
        tls: for https; None for http.
        token: of the user; empty where a certificate says who it is.
        namespace: the context's; `default` where it has none.
    """

    server: str
    tls: ssl.SSLContext | None
    token: str
    namespace: str


def read(path: str, pod: Mapping[str, str], context: str = "") -> Access:
    """The cluster that a kubeconfig file names, or this pod's.

    Args:
        path: of the file; empty means the pod's own access, then `~/.kube/config`.
        pod: `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, where a pod has them.
        context: another than the file's current one.

    Raises:
        DeployError: no such file or context, or a user whose credentials cannot be had.
    """
    host = pod.get("KUBERNETES_SERVICE_HOST")
    if not path and host:
        return _of_pod(host, pod.get("KUBERNETES_SERVICE_PORT", "443"))
    file = Path(path or Path.home() / ".kube" / "config")
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise DeployError(f"no cluster: cannot read {file} ({error}); set KUBECONFIG or --kubeconfig") from None
    return _of_file(content if isinstance(content, dict) else {}, file, context)


def _of_pod(host: str, port: str) -> Access:
    try:
        token = (POD_FOLDER / "token").read_text().strip()
        namespace = (POD_FOLDER / "namespace").read_text().strip()
        tls = ssl.create_default_context(cafile=str(POD_FOLDER / "ca.crt"))
    except OSError as error:
        raise DeployError(f"this pod has no service account's token ({error}): allow it, or set KUBECONFIG") from None
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, tls, token, namespace)


def _of_file(content: Mapping[str, Any], file: Path, context: str) -> Access:
    name = context or content.get("current-context", "")
    chosen = _named(content, "contexts", name, file)["context"]
    cluster = _named(content, "clusters", chosen["cluster"], file)["cluster"]
    user = _named(content, "users", chosen["user"], file)["user"] or {} if chosen.get("user") else {}
    if "exec" in user:
        user = {**user, **_plugin(user["exec"], file)}
    token = user.get("token", "")
    if not token and user.get("tokenFile"):
        token = (file.parent / user["tokenFile"]).read_text().strip()
    server = cluster["server"].rstrip("/")
    tls = _tls(cluster, user, file.parent) if server.startswith("https:") else None
    return Access(server, tls, token, chosen.get("namespace") or "default")


def _named(content: Mapping[str, Any], kind: str, name: str, file: Path) -> Mapping[str, Any]:
    for entry in content.get(kind) or ():
        if entry.get("name") == name:
            found: Mapping[str, Any] = entry
            return found
    raise DeployError(f"{file} has no {name!r} among its {kind}")


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _bytes(cluster, "certificate-authority", folder)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = _bytes(user, "client-certificate", folder), _bytes(user, "client-key", folder)
    if certificate and key:
        # The ssl module reads certificates from files only; mkstemp's are for our eyes.
        with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
            pem.write(certificate + b"\n" + key)
            pem.flush()
            tls.load_cert_chain(pem.name)
    return tls


def _bytes(entry: Mapping[str, Any], key: str, folder: Path) -> bytes:
    if entry.get(f"{key}-data"):
        return base64.b64decode(entry[f"{key}-data"])
    return (folder / entry[key]).read_bytes() if entry.get(key) else b""


def _plugin(plugin: Mapping[str, Any], file: Path) -> dict[str, str]:
    """What a client-go credential plugin (GKE's, EKS's) says."""
    command = [plugin["command"], *(plugin.get("args") or ())]
    info = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {entry["name"]: entry["value"] for entry in plugin.get("env") or ()}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(info)
    try:
        done = subprocess.run(  # noqa: S603  the user's own kubeconfig names it
            command, capture_output=True, check=True, timeout=PLUGIN_SECONDS, env=os.environ | environment
        )
        status = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        text = getattr(error, "stderr", b"") or b""
        raise DeployError(
            f"{file}: credential plugin {plugin['command']!r} failed: {error} {text.decode(errors='replace').strip()}"
        ) from None
    return {
        key: value
        for key, value in (
            ("token", status.get("token", "")),
            ("client-certificate-data", _encoded(status.get("clientCertificateData", ""))),
            ("client-key-data", _encoded(status.get("clientKeyData", ""))),
        )
        if value
    }


def _encoded(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
