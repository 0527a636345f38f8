"""Files go into a real bucket, of S3 or of Cloud Storage, and a model answers: with nothing done in between.

The images are `ZEROSERVE_E2E_IMAGE` and `ZEROSERVE_E2E_DEPLOY_IMAGE`; `KNATIVE_INGRESS` and `KNATIVE_DOMAIN` say where
services answer. Pods reach this machine by the address of the cluster's node.
"""

import http.client
import http.server
import json
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import grpc
import pytest

import loader.protos as _protos
from functions.cli import main
from knative import kubeconfig
from knative.client import Client
from knative.declaration import DECLARATION_KEY, Declaration, config_map, declaration_text
from knative.eventing import BROKER, FUNCTION
from knative.service import Deployment
from tests.functions.served import GOLDEN_MODELS
from tests.servers.gcs import GcsServer, gcs_server
from tests.servers.pubsub import pubsub_server
from tests.servers.s3 import BUCKET, S3Server, s3_server

assert _protos
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc  # noqa: E402

MODEL = GOLDEN_MODELS / "half_plus_two" / "1"
SECONDS = 120.0
NEEDED = ("KUBECONFIG", "KNATIVE_INGRESS", "KNATIVE_DOMAIN", "ZEROSERVE_E2E_IMAGE", "ZEROSERVE_E2E_DEPLOY_IMAGE")
LACKING = [name for name in NEEDED if not os.environ.get(name)]
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}

pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"no cluster with our images: {', '.join(LACKING)} not set")


@dataclass(frozen=True)
class Place:
    """A namespace in which uploads deploy, and a bucket for them in each of two stores."""

    client: Client
    namespace: str
    s3: S3Server
    gcs: GcsServer
    environ: dict[str, str]
    webhook: str

    def declare(self, name: str, scheme: str = "s3", **environ: str) -> None:
        """Says that a model is wanted; there is no version yet."""
        url = f"{scheme}://{BUCKET}/{name}"
        image = os.environ["ZEROSERVE_E2E_IMAGE"]
        environment = self.environ | environ
        deployment = Deployment(name, url, image, namespace=self.namespace, environment=environment, memory="512Mi")
        text = declaration_text(Declaration(deployment))
        self.client.apply_config_map(config_map(name, self.namespace, {DECLARATION_KEY: text}), "tests")

    def upload(self, name: str, version: int, store: S3Server | GcsServer | None = None) -> None:
        """Puts the files of a version into the bucket of a store, by default S3's, in any order."""
        files = [path for path in MODEL.rglob("*") if path.is_file()]
        random.Random(version).shuffle(files)
        for path in files:
            (store or self.s3).put(f"{name}/{version}/{path.relative_to(MODEL)}", path.read_bytes())

    def ask(self, name: str, method: str, path: str, body: str = "") -> tuple[int, Any]:
        """What a model's service answers through the ingress; 0 while there is none."""
        connection = http.client.HTTPConnection(os.environ["KNATIVE_INGRESS"], timeout=60)
        host = f"{name}.{self.namespace}.{os.environ['KNATIVE_DOMAIN']}"
        try:
            connection.request(method, path, body, {"Host": host})
            answer = connection.getresponse()
            content = answer.read()
            return (answer.status, json.loads(content)) if answer.status == 200 else (answer.status, None)
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def serving(self, name: str) -> list[int]:
        """The versions that the service's address answers with."""
        status, found = self.ask(name, "GET", f"/v1/models/{name}")
        rows = found["model_version_status"] if status == 200 else []
        return [int(row["version"]) for row in rows if row["state"] == "AVAILABLE"]

    def until_serving(self, name: str, version: int) -> None:
        deadline = time.monotonic() + SECONDS
        while (found := self.serving(name)) != [version]:
            assert time.monotonic() < deadline, (name, found, self.revisions(name))
            time.sleep(0.1)

    def revisions(self, name: str) -> list[str]:
        return sorted(one["metadata"]["name"] for one in self.client.revisions(self.namespace, name))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with installed(tmp_path_factory, "--anonymous-events") as found:
        yield found


@contextmanager
def installed(tmp_path_factory: pytest.TempPathFactory, *more: str) -> Iterator[Place]:
    """A namespace with everything that makes an upload deploy, as long as the block.

    Args:
        more: words of `zeroserve events install`.
    """
    client = Client(kubeconfig.read(os.environ["KUBECONFIG"], {}))
    namespace = f"upload-{secrets.token_hex(3)}"
    client.json("POST", "/api/v1/namespaces", None, {"metadata": {"name": namespace}})
    try:
        host = _this_machine(client)
        with (
            s3_server(tmp_path_factory.mktemp("s3"), "0.0.0.0") as s3,
            pubsub_server() as pubsub,
            gcs_server(tmp_path_factory.mktemp("gcs"), host, pubsub.address) as gcs,
        ):
            endpoint = f"http://{host}:{s3.endpoint.rpartition(':')[2]}"
            environ = {**s3.environ, **gcs.environ, "AWS_ENDPOINT_URL": endpoint}
            words = ["events", "install", "-n", namespace, f"--image={os.environ['ZEROSERVE_E2E_DEPLOY_IMAGE']}"]
            words += [f"--watch=s3://{BUCKET}/watched", *more]
            words += [word for name, value in environ.items() for word in ("--env", f"{name}={value}")]
            assert main(words) == 0
            with _relay(_gateway(client, namespace), f"{FUNCTION}.{namespace}.svc.cluster.local") as webhook:
                pubsub.push = webhook
                yield Place(client, namespace, s3, gcs, environ, webhook)
    finally:
        client.json("DELETE", f"/api/v1/namespaces/{namespace}")
        client.close()


def _this_machine(client: Client) -> str:
    (node,) = client.json("GET", "/api/v1/nodes")["items"]
    found: str = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    return found


def _gateway(client: Client, namespace: str) -> str:
    """The address behind which the cluster's own gateway has the function."""
    name = client.json("GET", f"/api/v1/namespaces/{namespace}/services/{FUNCTION}")["spec"]["externalName"]
    service, where = name.split(".")[:2]
    found: str = client.json("GET", f"/api/v1/namespaces/{where}/services/{service}")["spec"]["clusterIP"]
    return found


class _relay:  # noqa: N801  used as a function
    """Hands webhooks from this machine, which the cluster's names mean nothing to, to a service of the cluster."""

    def __init__(self, address: str, host: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kept = {
                    name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}
                }
                connection = http.client.HTTPConnection(address, timeout=60)
                connection.request("POST", "/", body, {**kept, "Host": host})
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                self.send_response(answer.status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_the_notifications_of_a_bucket_deploy_what_is_uploaded(place: Place, tmp_path: Path) -> None:
    place.declare("told")
    sns = boto3.client("sns", endpoint_url=place.s3.endpoint, **KEYS)
    topic = sns.create_topic(Name="told")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=place.webhook)
    notify = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
    place.s3.client.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=notify)
    try:
        for version in (1, 2):
            place.upload("told", version)
            place.until_serving("told", version)
        assert place.ask("told", "POST", "/v1/models/told:predict", '{"instances": [1.0]}') == (
            200,
            {"predictions": [2.5]},
        )
        assert [name.split("-")[1] for name in place.revisions("told")] == ["v1", "v2"]
    finally:
        place.s3.client.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})
        sns.close()


def test_cloud_storages_notifications_deploy_what_is_uploaded(place: Place) -> None:
    place.declare("clouded", "gs")
    for version in (1, 2):
        place.upload("clouded", version, place.gcs)
        place.until_serving("clouded", version)
    assert place.ask("clouded", "POST", "/v1/models/clouded:predict", '{"instances": [1.0]}') == (
        200,
        {"predictions": [2.5]},
    )
    assert [name.split("-")[1] for name in place.revisions("clouded")] == ["v1", "v2"]


def test_a_watcher_in_the_cluster_deploys_what_is_uploaded_through_the_broker(place: Place) -> None:
    place.declare("watched")
    place.upload("watched", 7)
    place.until_serving("watched", 7)
    assert [name.split("-")[1] for name in place.revisions("watched")] == ["v7"]


def test_the_sweep_deploys_what_nobody_told_of(place: Place) -> None:
    place.declare("untold")
    place.upload("untold", 3)
    place.until_serving("untold", 3)


def test_a_reload_that_a_pod_is_asked_for_goes_through_the_broker_and_deploys(place: Place) -> None:
    broker = f"http://broker-ingress.knative-eventing.svc.cluster.local/{place.namespace}/{BROKER}"
    place.declare("asked", "gs", SERVING_RELOAD_SINK=broker)
    place.upload("asked", 1, place.gcs)
    place.until_serving("asked", 1)
    place.upload("brought", 4, place.gcs)
    request = model_management_pb2.ReloadConfigRequest()
    for name in ("asked", "brought"):
        request.config.model_config_list.config.add(name=name, base_path=f"gs://{BUCKET}/{name}")
    host = f"asked.{place.namespace}.{os.environ['KNATIVE_DOMAIN']}"
    with grpc.insecure_channel(os.environ["KNATIVE_INGRESS"], [("grpc.default_authority", host)]) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert stub.HandleReloadConfigRequest(request, timeout=60).status.error_code == 0
    place.until_serving("brought", 4)
    assert place.serving("asked") == [1]
