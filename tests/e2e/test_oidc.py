"""Where Knative Eventing proves who sends (`authentication-oidc`), the door is shut to everybody else."""

import http.client
import json
import os
from collections.abc import Iterator

import pytest

from events.own_event import SWEEP
from knative import keys, kubeconfig
from knative.client import Client
from knative.eventing import FUNCTION
from knative.eventing_apply import proves_senders
from tests.e2e.ingress import eventually
from tests.e2e.place import needs_cluster, run
from tests.e2e.test_upload_deploys import Place, installed

pytestmark = needs_cluster


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    client = Client(kubeconfig.read(os.environ["KUBECONFIG"], {}))
    try:
        if not proves_senders(client):
            pytest.skip("authentication-oidc is not enabled in knative-eventing's config-features")
    finally:
        client.close()
    with installed(tmp_path_factory) as found:
        yield found


def answers(place: Place) -> dict[str, int]:
    """What the pods of the deploy function that run answered to events: status -> how often."""
    found: dict[str, int] = {}
    path = f"/api/v1/namespaces/{place.namespace}/pods"
    for pod in place.client.json("GET", path, {"labelSelector": "serving.knative.dev/service=zeroserve-deploy"})[
        "items"
    ]:
        text = place.client.ask_pod(place.namespace, pod["metadata"]["name"], 8080, "/monitoring/prometheus/metrics")
        for line in text.decode().splitlines():
            if line.startswith("zeroserve_event_answers_total{"):
                status = line.partition('code="')[2].partition('"')[0]
                found[status] = found.get(status, 0) + int(float(line.rpartition(" ")[2]))
    return found


def test_a_watchers_event_reaches_the_function_through_the_broker_with_the_brokers_token(place: Place) -> None:
    place.declare("watched")
    place.upload("watched", 7)
    place.until_serving("watched", 7)
    found = answers(place)
    assert not {"401", "403"} & found.keys(), found
    # What becomes of the rollout is told to the Broker, which wants a token too.
    words = ("logs", f"--namespace={place.namespace}", f"--selector={keys.SERVICE}={FUNCTION}", "--container=deploy")
    said = run("kubectl", *words)
    assert said.status == 0, said.err
    assert "revision watched-v7-" in said.out
    assert "is not delivered" not in said.out


def test_who_shows_no_token_or_one_for_another_door_is_refused(place: Place) -> None:
    host, _, _ = place.webhook.removeprefix("http://").partition("/")
    path = f"/api/v1/namespaces/{place.namespace}/serviceaccounts/default/token"

    def token(audience: str) -> str:
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [audience]}}
        return str(place.client.json("POST", path, None, asked)["status"]["token"])

    def sent(**headers: str) -> int:
        connection = http.client.HTTPConnection(host, timeout=60)
        named = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "//tests", "ce-type": SWEEP}
        connection.request("POST", "/", json.dumps({}), named | {"content-type": "application/json"} | headers)
        status = connection.getresponse().status
        connection.close()
        return status

    assert sent() == 401
    assert sent(authorization=f"Bearer {token('another')}") == 403
    eventually(lambda: sent(authorization=f"Bearer {token(FUNCTION)}") in {202, 204})
