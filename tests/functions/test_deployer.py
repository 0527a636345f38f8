"""The deploy function as a process, under functions-framework and on its own server: what it answers, and to whom."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from events.outcome import Outcome, State
from functions.observing.landing_metrics import LandingMetrics
from tests.functions.exported import read, value
from tests.functions.served import ROOT
from tests.servers.process import free_port, running, wait_for_http

SECRET = "0123456789abcdef"
BLOCKER = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "tensorflow_serving", "numpy", "grpc", "ml_dtypes"}:
            raise ImportError("the deploy image has no " + name)
sys.meta_path.insert(0, Blocked())
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody, namespace: models}}]
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:PORT"}}]
users: [{name: nobody, user: {token: x}}]
"""
COMMANDS = {
    "own server": ["zeroserve", "deployer", "--host=127.0.0.1"],
    "functions-framework": [
        "functions-framework",
        "--source=functions/deploy_target.py",
        "--target=deploy",
        "--host=127.0.0.1",
    ],
}


def variables(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a deploy image, whose cluster does not answer."""
    (folder / "secret").write_text(SECRET)
    (folder / "kubeconfig").write_text(KUBECONFIG.replace("PORT", str(free_port())))
    (folder / "sitecustomize.py").write_text(BLOCKER)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SERVING_", "FUNCTION_"))}
    mine = {
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "KUBECONFIG": str(folder / "kubeconfig"),
        "SERVING_EVENT_SECRET_FILE": str(folder / "secret"),
    }
    return {name: value for name, value in (kept | mine | more).items() if value}


@contextlib.contextmanager
def deployer(folder: Path, command: str, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process and its port."""
    port = free_port()
    words = [Path(sys.executable).with_name(COMMANDS[command][0]), *COMMANDS[command][1:], f"--port={port}"]
    log = folder / "log"
    with contextlib.chdir(ROOT), running(words, environ=variables(folder, **more), log=log) as process:
        try:
            wait_for_http(f"http://127.0.0.1:{port}/readyz")
        except OSError:
            raise AssertionError(log.read_text()) from None
        yield process, port
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module", params=COMMANDS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with deployer(tmp_path_factory.mktemp("deployer"), request.param) as (_, found):
        yield found


def ask(port: int, body: bytes = b"", method: str = "POST", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, "/any/path", body, {"Authorization": f"Bearer {SECRET}"} | named)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


def event(kind: str) -> dict[str, str]:
    return {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "//s", "ce_type": kind}


def test_an_event_about_nothing_here_is_done_with_an_empty_answer(port):
    assert ask(port, b"{}", Content_Type="application/json", **event("somebody.elses"))[::2] == (204, "")
    test_event = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}).encode()
    assert ask(port, test_event, Content_Type="text/plain")[::2] == (204, "")


def test_while_the_cluster_does_not_answer_events_are_worth_sending_again(port):
    body = json.dumps({"url": "s3://b/models/m/1/saved_model.pb"}).encode()
    status, headers, text = ask(port, body, **event("com.zeroserve.storage.object.created.v1"))
    assert (status, headers["retry-after"]) == (503, "2")
    assert "does not answer" in text


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Bearer wrong-wrong-wrong-wrong", 403), ("Bearer ", 403), ("Basic eDp5", 403)],
)
def test_who_does_not_know_the_secret_is_turned_away_before_anything_is_read(port, authorization, status):
    found, headers, text = ask(port, b"not an event", Authorization=authorization)
    assert found == status
    assert ("www-authenticate" in headers) == (status == 401)
    assert SECRET not in text


def test_amazon_sends_the_secret_as_a_password(port):
    assert ask(port, b"{}", Authorization="Basic c25zOjAxMjM0NTY3ODlhYmNkZWY=", **event("x"))[0] == 204


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"hello": 1}', {}, 400),
        (b"{}", {"ce_specversion": "0.3", "ce_id": "1", "ce_source": "s", "ce_type": "t"}, 400),
        (b"{}", event("com.zeroserve.storage.object.created.v1"), 400),
        (b"{}", event("com.zeroserve.model.config.v1"), 400),
        (b" " * ((4 << 20) + 1), {}, 413),
        (b"\x1f\x8b", {"Content_Encoding": "gzip"}, 415),
    ],
)
def test_what_is_no_event_is_refused_for_good(port, body, headers, status):
    found, _, text = ask(port, body, **headers)
    assert found == status
    assert text
    assert "\n" not in text


def test_other_methods_are_refused_and_probes_are_answered(port):
    assert ask(port, method="PUT")[0] == 405
    assert ask(port, method="GET")[0] == 405
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


def test_both_handshakes_of_event_grid_are_answered(port):
    status, headers, _ = ask(port, method="OPTIONS", WebHook_Request_Origin="eventgrid.azure.net", Authorization="")
    assert (status, headers["webhook-allowed-origin"]) == (200, "eventgrid.azure.net")
    assert ask(port, method="OPTIONS")[0] == 400
    question = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "a-1"}}
    status, headers, text = ask(port, json.dumps([question]).encode())
    assert (status, json.loads(text)) == (200, {"validationResponse": "a-1"})
    assert headers["content-type"] == "application/json"


def test_a_strangers_subscription_is_not_confirmed(port):
    message = {"Type": "SubscriptionConfirmation", "TopicArn": "arn:x", "SubscribeURL": "http://127.0.0.1/"}
    status, _, text = ask(port, json.dumps(message).encode(), Content_Type="text/plain")
    assert (status, "--sns_topics" in text) == (400, True)


def test_secrets_change_while_it_runs(tmp_path):
    with deployer(tmp_path, "own server") as (_, port):
        (tmp_path / "secret").write_text("another secret of enough length\n")
        assert ask(port, b"{}", **event("x"))[0] == 403
        assert ask(port, b"{}", Authorization="Bearer another secret of enough length", **event("x"))[0] == 204


def test_it_ends_well_on_sigterm(tmp_path):
    with deployer(tmp_path, "own server") as (process, port):
        ask(port, b"{}", **event("com.zeroserve.sweep.v1"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"SERVING_EVENT_SECRET_FILE": ""}, "nobody may send events"),
        ({"SERVING_ANONYMOUS_EVENTS": "true"}, "goes with neither"),
        ({"SERVING_EVENT_SECRET_FILE": "/nowhere/secret"}, "No such file"),
        ({"SERVING_EVENT_SECRETFILE": "x"}, "nearest known one is SERVING_EVENT_SECRET_FILE"),
        ({"SERVING_EVENT_ISSUERS": "http://x"}, "wanted https URLs"),
        ({"KUBECONFIG": "/nowhere/config"}, "no cluster"),
    ],
)
def test_a_start_that_makes_no_sense_ends_with_one_line(tmp_path, command, more, words):
    line = [Path(sys.executable).with_name(COMMANDS[command][0]), *COMMANDS[command][1:], f"--port={free_port()}"]
    done = subprocess.run(line, env=variables(tmp_path, **more), cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode() or command == "functions-framework"


def test_what_it_does_is_counted_for_who_asks_the_pod_and_hidden_from_who_comes_through_a_proxy(tmp_path: Path) -> None:
    def metrics(port: int, **headers: str) -> tuple[int, str]:
        answer = requests.get(f"http://127.0.0.1:{port}/monitoring/prometheus/metrics", headers=headers, timeout=60)
        return answer.status_code, answer.text

    with deployer(tmp_path, "own server") as (_, port):
        assert ask(port, b"{}", **event("somebody.elses"))[0] == 204
        assert ask(port, b"{", Authorization="")[0] == 401
        status, text = metrics(port)
        assert status == 200
        found = read(text)
        assert value(found, "zeroserve_event_answers_total", code="204") == 1
        assert value(found, "zeroserve_event_answers_total", code="401") == 1
        for proxied in ({"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}):
            status, text = metrics(port, **proxied)
            assert status == 405
            assert "zeroserve_" not in text


def test_where_each_model_stands_is_what_the_last_look_found() -> None:
    counts, told = LandingMetrics(), []
    tell = counts.telling(lambda kind, service, data: told.append((kind, service)))
    tell("failed", "m", {})
    for outcome in (Outcome(State.WORKING), Outcome(State.FAILED), None, Outcome(State.DONE)):
        counts.looked("m", outcome)
        counts.looked("other", outcome)
    counts.looked("other", Outcome(State.UNDECLARED))
    found = read(counts.text().decode())
    assert found["zeroserve_landing_state"] == {frozenset({("service", "m"), ("state", "done")}): 1}
    assert value(found, "zeroserve_rollout_events_total", service="m", kind="failed") == 1
    assert told == [("failed", "m")]
    counts.looked("m", None)
    assert value(read(counts.text().decode()), "zeroserve_landing_state", service="m", state="unreachable") == 1
