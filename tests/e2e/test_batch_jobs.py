"""Batch jobs on a real cluster: an event becomes a Job, its results lie in storage, and the sink is told."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.e2e.place import COMMAND_SECONDS, SECRET, Place, needs_cluster, run
from tests.functions.batch_files import write
from tests.servers.s3 import BUCKET
from tests.servers.sink import SinkServer, sink_server

pytestmark = needs_cluster

ROWS = 3000


def install(here: Place, sink: SinkServer, model: str, *words: str) -> None:
    allowed = [f"s3://{BUCKET}/{here.namespace}/", f"http://half.{here.namespace}.svc.cluster.local/"]
    flags = [f"--image={os.environ['ZEROSERVE_E2E_IMAGE']}", "--cpu=50m", "--memory=600Mi", "--scratch=1Gi"]
    flags += [f"--env-from-secret={SECRET}", f"--sink={sink.url}", *words, f"--namespace={here.namespace}"]
    rest = ["--model", model, "--keep", "id", "--part-rows", "500", "--quiet", *(f"--allow={one}" for one in allowed)]
    said = run(sys.executable, "-m", "functions.cli", "batch", "install", *flags, "--", *rest)
    assert said.status == 0, said.err
    assert said.out.startswith("http://")


def post(address: str, data: Mapping[str, Any], number: str) -> requests.Response:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "com.zeroserve.batch.requested.v1",
        "ce-source": "/e2e",
        "ce-id": number,
    }
    return requests.post(address, json=data, headers=headers, timeout=60)


def results(here: Place, folder: str) -> dict[str, bytes]:
    prefix = f"{here.namespace}/{folder}/"
    listed = here.store.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    read = here.store.client.get_object
    return {one["Key"].removeprefix(prefix): read(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in listed}


def check(found: Mapping[str, bytes], wanted: list[float]) -> None:
    assert "_SUCCESS" in found
    lines = [line for name in sorted(found) if name.startswith("part-") for line in found[name].splitlines()]
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert [row["y"] for row in rows] == wanted


def test_an_event_becomes_a_job_through_a_model_and_through_a_revision(here: Place, tmp_path: Path) -> None:
    model = here.upload("half", 1)
    x = [at * 0.5 for at in range(ROWS)]
    wanted = [at / 2 + 2 for at in x]
    here.store.put(
        f"{here.namespace}/in/x.jsonl", write(tmp_path / "x.jsonl", {"id": list(range(ROWS)), "x": x}).read_bytes()
    )
    url = f"s3://{BUCKET}/{here.namespace}"
    host = str(urlsplit(here.store.endpoint).hostname)
    with sink_server(host=host) as sink:
        here.kubectl("apply", "-f", "-", feed=json.dumps(broker(here)))
        install(here, sink, model, "--broker=default")
        here.kubectl("wait", "trigger/zeroserve-batch", "broker/default", "--for=condition=Ready", "--timeout=120s")

        # Through the Broker and its Trigger, a model loaded by the job; the event comes twice.
        address = f"http://{os.environ['KNATIVE_BROKER']}/{here.namespace}/default"
        for _ in range(2):
            assert post(address, {"inputs": [f"{url}/in/x.jsonl"]}, "1").status_code == 202
        told = sink.received.get(timeout=COMMAND_SECONDS)
        assert told.headers["ce-type"] == "com.zeroserve.batch.completed.v1", told.body
        assert (told.data["rows"], told.data["predicted"], told.data["parts"]) == (ROWS, ROWS, 8)
        check(results(here, "in/x.jsonl.predictions"), wanted)

        # Straight to the JobSink, through a revision.
        here.deploy("half", model)
        service = here.get("service", "job-sink", "-n", "knative-eventing")["spec"]["clusterIP"]
        straight = f"http://{service}/{here.namespace}/zeroserve-batch"
        revision = f"http://half.{here.namespace}.svc.cluster.local/v1/models/half"
        data = {"inputs": [f"{url}/in/x.jsonl"], "url": revision, "output": f"{url}/served"}
        assert post(straight, data, "2").status_code == 202
        told = sink.received.get(timeout=COMMAND_SECONDS)
        assert told.headers["ce-type"] == "com.zeroserve.batch.completed.v1", told.body
        check(results(here, "served"), wanted)

        # What an event may not name is told, and tried once only.
        assert post(straight, {"inputs": ["s3://elsewhere/x.csv"]}, "3").status_code == 202
        told = sink.received.get(timeout=COMMAND_SECONDS)
        assert (told.headers["ce-type"], told.data["code"]) == ("com.zeroserve.batch.failed.v1", "PERMISSION_DENIED")
        end = time.monotonic() + COMMAND_SECONDS
        while not any(failed(job) for job in jobs(here)):
            assert time.monotonic() < end
            time.sleep(0.5)
        found = jobs(here)
        assert len(found) == 3  # the event that came twice has one
        assert [job["status"].get("failed", 0) for job in found if failed(job)] == [1]
        here.zeroserve("batch", "uninstall")
        assert here.get("jobsinks")["items"] == here.get("triggers")["items"] == []


def broker(here: Place) -> dict[str, Any]:
    metadata = {"name": "default", "namespace": here.namespace}
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": metadata}


def jobs(here: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = here.get("jobs")["items"]
    return found


def failed(job: Mapping[str, Any]) -> bool:
    conditions = job["status"].get("conditions") or []
    return any(one["type"] == "Failed" and one["status"] == "True" for one in conditions)
