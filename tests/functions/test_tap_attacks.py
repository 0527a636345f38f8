"""What the tap must not do to a server: slow sinks, stores that are away, several processes and revisions; and nothing
at all where nobody asks for it.
"""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.functions.command import Command
from tests.functions.exported import read, scrape, value
from tests.functions.revisions import running_revisions
from tests.functions.served import GOLDEN_MODELS, ROOT
from tests.functions.test_tap_server import logs
from tests.servers.sink import sink_server

MODEL = ("--model_name=m", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}")


def test_a_sink_that_hangs_delays_no_prediction_and_the_end_is_bounded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        sink = f"--prediction_log_sink=http://127.0.0.1:{silent.getsockname()[1]}/"
        with Command(tmp_path, *MODEL, sink, "--prediction_log_share=1", "--drain_delay_seconds=0") as command:
            command.until_ready()
            with requests.Session() as session:
                slowest = 0.0
                for number in range(1500):  # more than may wait
                    began = time.monotonic()
                    body = {"instances": [number]}
                    assert session.post(command.url("/v1/models/m:predict"), json=body, timeout=60).status_code == 200
                    slowest = max(slowest, time.monotonic() - began)
            assert slowest < 5
            found = scrape(f"127.0.0.1:{command.port}")
            assert value(found, "zeroserve_tap_dropped_total", exit="prediction_log", reason="queue_full") >= 400
            assert value(found, "zeroserve_tap_sampled_total", exit="prediction_log") == 1500
            began = time.monotonic()
            command.process.terminate()
            assert command.process.wait(60) == 0
            assert time.monotonic() - began < 15
            command.until_line("events were not taken by http://127.0.0.1")


def test_events_that_wait_are_sent_before_the_process_ends(tmp_path: Path) -> None:
    with sink_server(*[(503, {})] * 4) as sink:  # one try of each sender fails
        flags = (f"--prediction_log_sink={sink.url}", "--prediction_log_share=1", "--drain_delay_seconds=0")
        with Command(tmp_path, *MODEL, *flags) as command:
            command.until_ready()
            for _ in range(20):
                assert command.predict().status_code == 200
            command.process.terminate()
            assert command.process.wait(60) == 0
        ids = [sink.received.get_nowait().headers["ce-id"] for _ in range(sink.received.qsize())]
    assert len(set(ids)) == 20


def test_workers_record_side_by_side_and_their_counts_are_one(tmp_path: Path) -> None:
    flags = (
        f"--record_to={tmp_path / 'kept'}",
        "--record_share=1",
        "--record_seconds=0.1",
        "--workers=2",
        "--feedback",
    )
    with Command(tmp_path, *MODEL, *flags) as command:
        command.until_ready()
        for number in range(40):
            body = {"instances": [float(number)]}
            answer = requests.post(command.url("/v1/models/m:predict"), json=body, timeout=60)
            told = {"request_id": answer.headers["x-feedback-id"], "outcome": number % 2 == 0}
            assert requests.post(command.url("/v1/feedback"), json=told, timeout=60).status_code == 202

        def all_written() -> bool:
            found = read(command.get("/monitoring/prometheus/metrics").text)
            return value(found, "zeroserve_tap_passed_total", exit="record") == 40

        command.until(all_written)
        found = read(command.get("/monitoring/prometheus/metrics").text)
        assert value(found, "zeroserve_outcomes", model_name="m", version="1") == 40
        assert value(found, "zeroserve_outcomes_sum", model_name="m", version="1") == 20
    assert len(logs(tmp_path / "kept")) == 40
    assert not list(tmp_path.rglob(".*.tfrecord*"))


def test_the_revision_that_answers_is_the_one_that_samples_and_any_takes_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sink_server() as sink:
        monkeypatch.setenv("SERVING_PREDICTION_LOG_SINK", sink.url)
        monkeypatch.setenv("SERVING_PREDICTION_LOG_SHARE", "1")
        monkeypatch.setenv("SERVING_FEEDBACK", "true")
        with running_revisions(tmp_path, 1, 2) as revisions:
            revisions.routes(arms=[{"tag": "v1", "percent": 100}], shadow={"tag": "v2", "percent": 100})
            url = revisions[1].url("/v1/models/m/versions/2:predict")
            body = {"signature_name": "id_float32", "instances": [1.0]}
            answer = requests.post(url, json=body, headers={"x-request-id": "one"}, timeout=60)
            assert answer.status_code == 200, answer.text
            ids = answer.raw.headers.getlist("x-feedback-id")
            assert [one.rsplit("!", 1)[0] for one in ids] == ["one!m!2"]
            assert answer.raw.headers.getlist("x-request-id") == ["one"]
            event = sink.next()
            assert (event.headers["ce-subject"], event.data["version"]) == ("one", 2)
            told = requests.post(
                revisions[1].url("/v1/feedback"), json={"request_id": ids[0], "outcome": -3}, timeout=60
            )
            assert told.status_code == 202
            found = read(revisions[1].get("/monitoring/prometheus/metrics").text)
            assert value(found, "zeroserve_outcomes_sum", model_name="m", version="2") == -3
            assert sink.next().data["outcome"] == -3
            # A shadow's copy is nobody's prediction.
            revisions[1].until(lambda: b"shadow" in (tmp_path / "routes.json").read_bytes())
            requests.post(revisions[1].url("/v1/models/m:predict"), json=body, timeout=60)
            assert sink.next().data["version"] == 1
            revisions[1].until(lambda: revisions.metric(1, "zeroserve_shadow_total") == 1)
            assert revisions.metric(2, "zeroserve_tap_sampled_total", exit="prediction_log") == 1


def test_a_mix_and_a_batch_are_one_prediction_with_its_own_rows(tmp_path: Path) -> None:
    with sink_server() as sink:
        flags = ("--allow_version_labels_for_unavailable_models=true", "--enable_batching=true")
        tap = (f"--prediction_log_sink={sink.url}", "--prediction_log_share=1")
        config = ROOT / "examples" / "mixing" / "models.conf"
        with Command(tmp_path, f"--model_config_file={config}", *flags, *tap) as command:
            command.until_ready()
            body = {"instances": np.zeros((2, 8, 8)).tolist()}
            answer = requests.post(command.url("/v1/models/digits_mix:predict"), json=body, timeout=60)
            assert answer.status_code == 200, answer.text
            event = sink.next()
            assert (event.data["model"], event.data["version"]) == ("digits_mix", 1)
            assert [one["shape"] for one in event.data["inputs"].values()] == [[2, 8, 8]]
            found = scrape(f"127.0.0.1:{command.port}")
            assert value(found, "zeroserve_tap_sampled_total") == 1


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        (("--prediction_log_share=0.5",), {}, "say where to"),
        (("--prediction_log_sink=http://h/",), {}, "nothing goes there"),
        (("--prediction_log_sink=ftp://h/", "--feedback"), {}, "wanted an http"),
        (("--record_to=nope://x",), {}, "--record_to: "),
        (("--record_to=/x", "--record_share=1.5"), {}, "wanted 0 to 1"),
        (("--feedback", "--feedback_secret=short"), {}, "less than 16 characters"),
        (("--prediction_log_share=1",), {"K_SINK": "http://h/", "K_CE_OVERRIDES": "x"}, "K_CE_OVERRIDES"),
        (("--prediction_log_share=1",), {"K_SINK": "https://h/", "K_CA_CERTS": "x"}, "K_CA_CERTS"),
    ],
)
def test_flags_that_make_no_sense_end_the_start_with_one_line(
    tmp_path: Path, flags: tuple[str, ...], environ: dict[str, str], words: str
) -> None:
    with Command(tmp_path, *MODEL, *flags, environ=environ) as command:
        assert command.process.wait(60) == 2
        assert words in command.log.read_text()
        assert command.log.read_text().count("\n") == 1


def test_a_server_without_the_tap_imports_nothing_of_it_and_k_sink_alone_is_no_reason() -> None:
    code = (
        "import sys; from functions.config import load_settings; from functions.server import Server;"
        f"server = Server(load_settings(['--model_name=m', '{MODEL[1]}', *sys.argv[1:]]), print);"
        "server.start(); server.wait_loaded(); server.close();"
        "print([name for name in sys.modules if name.startswith('functions.tap')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "K_SINK": "http://h/"},
    )
    assert found.stdout.strip() == "[]"
