"""`zeroserve serve --watch`: the whole loop on one machine, with real storage and real notices. The poll is an hour."""

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests

from tests.functions.command import Command
from tests.servers.s3 import BUCKET, S3Server, s3_server

SECRET = "a-word-that-nobody-guesses"
AUTHORIZED = {"authorization": f"Bearer {SECRET}"}
FLAGS = ("--watch", "--model_name=m", "--file_system_poll_wait_seconds=3600", "--max_num_load_retries=0")


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return f"--watch_secret_file={file}"


def available(server: Command) -> list[int]:
    return sorted(version for version, (state, _) in server.versions().items() if state == "AVAILABLE")


def event(url: str) -> dict[str, object]:
    """One of our own, in structured mode."""
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "test",
        "type": "com.zeroserve.storage.object.created.v1",
        "data": {"url": url},
    }


def post(server: Command, body: object, headers: dict[str, str] | None = None) -> requests.Response:
    kind = "application/cloudevents+json" if isinstance(body, dict) and "specversion" in body else "application/json"
    headers = {"content-type": kind, **(AUTHORIZED if headers is None else headers)}
    return requests.post(server.url("/events"), data=json.dumps(body), headers=headers, timeout=30)


def test_a_version_that_lands_in_a_local_folder_answers_at_once(tmp_path: Path, golden: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(golden / "half_plus_two" / "1", models / "1")
    with Command(tmp_path, *FLAGS, f"--model_base_path={models}") as server:
        server.until_ready()
        shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "aside")
        (tmp_path / "aside").rename(models / "2")
        landed = time.monotonic()
        server.until(lambda: available(server) == [2])
        assert time.monotonic() - landed < 10
        assert server.predict().json() == {"predictions": [2.5]}


def test_a_half_copied_version_is_never_served(tmp_path: Path, golden: Path) -> None:
    models, source = tmp_path / "models", golden / "mlp" / "1"
    shutil.copytree(golden / "half_plus_two" / "1", models / "1")
    seen: set[tuple[int, ...]] = set()
    done = threading.Event()
    with Command(tmp_path, *FLAGS, f"--model_base_path={models}") as server:
        server.until_ready()

        def ask() -> None:
            while not done.is_set():
                seen.add(tuple(available(server)))

        asking = threading.Thread(target=ask)
        asking.start()
        # A version is complete without its fingerprint: that one first, so that the last file is one that is awaited.
        shutil.copytree(source, models / "2", ignore=lambda *_: ["variables", "saved_model.pb"])
        files = [path for path in source.rglob("*") if path.is_file() and path.name != "fingerprint.pb"]
        files.sort(key=lambda path: -path.stat().st_size)
        try:
            for path in files:
                target = models / "2" / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                whole = path.read_bytes()
                for end in (1, len(whole) // 2, len(whole) - 1, len(whole)):
                    assert available(server) == [1], (path, end)
                    target.write_bytes(whole[:end])
                    if end < len(whole):
                        server.until(lambda: 2 in server.versions() and server.versions()[2][1])
            server.until(lambda: available(server) == [2])
        finally:
            done.set()
            asking.join()
        assert seen <= {(1,), (1, 2), (2,)}
        assert "INTERNAL" not in server.log.read_text()


def test_a_version_that_is_removed_is_unloaded_at_once(tmp_path: Path, golden: Path) -> None:
    models = tmp_path / "models"
    for version in "12":
        shutil.copytree(golden / "half_plus_two" / "1", models / version)
    with Command(tmp_path, *FLAGS, f"--model_base_path={models}") as server:
        server.until_ready()
        assert available(server) == [2]
        (models / "2").rename(tmp_path / "away")
        server.until(lambda: available(server) == [1])


def test_a_models_folder_that_a_reload_adds_is_watched_too(tmp_path: Path, golden: Path) -> None:
    config = tmp_path / "models.config"
    text = 'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "a" / "1")
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "b" / "1")
    first = text.format(name="a", path=tmp_path / "a")
    config.write_text(f"model_config_list {{ {first} }}")
    flags = (FLAGS[0], *FLAGS[2:], f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    with Command(tmp_path, *flags) as server:
        server.until_ready()
        config.write_text(f"model_config_list {{ {first} {text.format(name='b', path=tmp_path / 'b')} }}")
        server.until(lambda: server.predict("b").status_code == 200)
        shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "b" / "2")
        server.until(lambda: server.versions("b").get(2, ("", ""))[0] == "AVAILABLE")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_an_event_for_a_bucket_makes_the_server_look_at_once(
    tmp_path: Path, golden: Path, secret: str, s3: S3Server
) -> None:
    s3.put_tree(golden / "half_plus_two" / "1", "one/1")
    with Command(tmp_path, *FLAGS, "--model_base_path=s3://models/one", secret, environ=s3.environ) as server:
        server.until_ready()
        s3.put_tree(golden / "half_plus_two" / "1", "one/2")
        assert post(server, event("s3://models/other/2")).status_code == 204
        assert available(server) == [1]
        assert post(server, event("s3://models/one/2")).status_code == 204
        server.until(lambda: available(server) == [2])


def test_the_notification_of_a_real_bucket_makes_the_server_look(
    tmp_path: Path, golden: Path, secret: str, s3: S3Server
) -> None:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    sns = boto3.client("sns", endpoint_url=s3.endpoint, **keys)
    topic = sns.create_topic(Name="landed")["TopicArn"]
    s3.put_tree(golden / "half_plus_two" / "1", "two/1")
    with Command(tmp_path, *FLAGS, "--model_base_path=s3://models/two", secret, environ=s3.environ) as server:
        server.until_ready()
        address = f"http://sns:{SECRET}@127.0.0.1:{server.port}/events"
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=address)
        notify = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
        s3.client.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=notify)
        # The order in which stores tell of them: the large file last.
        files = sorted((golden / "half_plus_two" / "1").rglob("*"), key=lambda path: path.stat().st_size)
        for path in files:
            if path.is_file():
                s3.put(f"two/2/{path.relative_to(golden / 'half_plus_two' / '1')}", path.read_bytes())
        server.until(lambda: available(server) == [2])
        s3.client.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})
    sns.close()


def test_only_whoever_knows_the_secret_may_post(tmp_path: Path, golden: Path, secret: str) -> None:
    with Command(tmp_path, *FLAGS, f"--model_base_path={golden / 'half_plus_two'}", secret) as server:
        server.until_ready()
        assert post(server, event("/x/1"), headers={}).status_code == 401
        assert (
            post(server, event("/x/1"), headers={"authorization": "Bearer another-word-than-that"}).status_code == 403
        )
        assert post(server, event("/x/1")).status_code == 204
        assert post(server, {"some": "thing"}).status_code == 400
        assert post(server, "x" * (5 << 20)).status_code == 413
        assert requests.get(server.url("/events"), timeout=30).status_code == 405
        handshake = requests.options(server.url("/events"), headers={"webhook-request-origin": "grid"}, timeout=30)
        assert (handshake.status_code, handshake.headers["webhook-allowed-origin"]) == (200, "grid")
        validation = [
            {
                "id": "1",
                "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
                "data": {"validationCode": "512d"},
                "topic": "t",
                "subject": "",
            }
        ]
        assert post(server, validation).json() == {"validationResponse": "512d"}
        # What is not for this door goes the way it always went.
        assert server.predict().status_code == 200
        assert server.get("/events/").status_code == 404


def test_without_a_secret_nobody_may_post(tmp_path: Path, golden: Path) -> None:
    with Command(tmp_path, *FLAGS, f"--model_base_path={golden / 'half_plus_two'}") as server:
        server.until_ready()
        answer = requests.post(server.url("/events"), json={"Records": []}, timeout=30)
        assert answer.status_code == 404


def test_a_flood_of_events_costs_few_looks(tmp_path: Path, golden: Path, secret: str) -> None:
    with Command(tmp_path, *FLAGS, f"--model_base_path={golden / 'half_plus_two'}", secret) as server:
        server.until_ready()
        began = time.monotonic()
        with requests.Session() as session:
            headers = {"content-type": "application/cloudevents+json", **AUTHORIZED}
            body = json.dumps(event(str(golden / "half_plus_two" / "1")))
            for _ in range(300):
                assert session.post(server.url("/events"), data=body, headers=headers, timeout=30).status_code == 204
        seconds = time.monotonic() - began
        count = re.search(
            r'zeroserve_load_seconds_count\{[^}]*phase="list"[^}]*\} (\S+)',
            server.get("/monitoring/prometheus/metrics").text,
        )
        assert count is not None
        assert float(count[1]) <= 3 + seconds / 0.2


def test_a_file_without_a_good_secret_ends_the_start(tmp_path: Path, golden: Path) -> None:
    file = tmp_path / "short"
    file.write_text("short")
    base = f"--model_base_path={golden / 'half_plus_two'}"
    for flags, wanted in (
        ((*FLAGS, base, f"--watch_secret_file={file}"), "wanted 16 or more"),
        ((*FLAGS, base, f"--watch_secret_file={tmp_path / 'none'}"), "No such file"),
        ((*FLAGS[1:], base, f"--watch_secret_file={file}"), "is for --watch"),
    ):
        with Command(tmp_path, *flags) as server:
            assert server.process.wait(60) == 2
            assert wanted in server.log.read_text()


def test_an_event_that_reaches_one_worker_makes_all_look(
    tmp_path: Path, golden: Path, secret: str, s3: S3Server
) -> None:
    s3.put_tree(golden / "half_plus_two" / "1", "three/1")
    flags = (*FLAGS, "--model_base_path=s3://models/three", secret, "--workers=2")
    with Command(tmp_path, *flags, environ=s3.environ) as server:
        server.until_ready()
        s3.put_tree(golden / "half_plus_two" / "1", "three/2")
        assert post(server, event("s3://models/three/2")).status_code == 204
        server.until(lambda: available(server) == [2])  # which means: in all workers


def test_each_of_several_workers_watches(tmp_path: Path, golden: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(golden / "half_plus_two" / "1", models / "1")
    with Command(tmp_path, *FLAGS, f"--model_base_path={models}", "--workers=2") as server:
        server.until_ready()
        shutil.copytree(golden / "half_plus_two" / "1", models / "2")
        server.until(lambda: available(server) == [2])
        assert {server.predict().status_code for _ in range(20)} == {200}
