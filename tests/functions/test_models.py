"""Models of a real server in real stores: what is uploaded while it runs is served once it is complete."""

import contextlib
import io
import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

import loader.protos as _protos  # before the messages
from loader.tfrecord import encode
from tests.functions.command import SECONDS, Command
from tests.functions.served import GOLDEN_MODELS, ROOT
from tests.servers.gcs import gcs_server
from tests.servers.hdfs import hdfs_server
from tests.servers.s3 import S3Server, s3_server
from tests.servers.web import web_server

assert _protos
from tensorflow_serving.apis.predict_pb2 import PredictRequest  # noqa: E402
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog  # noqa: E402

HALF = GOLDEN_MODELS / "half_plus_two" / "1"
VARIABLES = ("variables/variables.index", "variables/variables.data-00000-of-00001")

ELSEWHERE = ("zeroserve_mix_", "zeroserve_landing_", "zeroserve_rollout_", "zeroserve_event_")
"""Beginnings of families that a server without mixes does not have."""


@dataclass(frozen=True)
class Upload:
    """A base path in a real store and how to put an object below it."""

    url: str
    put: Callable[[str, bytes], None]
    environ: Mapping[str, str]


@contextlib.contextmanager
def upload(kind: str, folder: Path) -> Iterator[Upload]:
    if kind == "s3":
        with s3_server(folder) as s3:
            yield Upload("s3://models/m", lambda name, body: s3.put(f"m/{name}", body), s3.environ)
    elif kind == "gs":
        with gcs_server(folder) as gcs:
            yield Upload("gs://models/m", lambda name, body: gcs.put(f"m/{name}", body), gcs.environ)
    elif kind == "webhdfs":
        with hdfs_server(folder) as hdfs:
            hdfs.make_folder("/m")
            yield Upload(f"{hdfs.url}/m", lambda name, body: hdfs.put(f"/m/{name}", body), {})
    else:
        root = folder / "web"
        (root / "m").mkdir(parents=True)

        def put(name: str, body: bytes) -> None:
            target = root / "m" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)

        with web_server(root) as url:
            yield Upload(f"{url}/m", put, {})


class Caller:
    """Predicts in a thread without a pause and keeps what went wrong."""

    def __init__(self, command: Command) -> None:
        self._url = command.url("/v1/models/m:predict")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answered = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                answer = session.post(self._url, data='{"instances": [1.0]}', timeout=SECONDS)
                if answer.status_code == 200 and answer.json() == {"predictions": [2.5]}:
                    self.answered += 1
                else:
                    self.failures.append(answer.text)


def packed() -> bytes:
    """The model as `.tar.gz`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(HALF, arcname=".")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["s3", "gs", "webhdfs", "http"])
def test_a_version_is_served_once_its_last_file_has_come_and_no_request_fails_meanwhile(
    kind: str, tmp_path: Path
) -> None:
    with upload(kind, tmp_path) as store:
        flags = (f"--model_base_path={store.url}", "--model_name=m", f"--cache_directory={tmp_path / 'cache'}")
        with Command(tmp_path, *flags, environ=store.environ) as command:
            store.put("1/saved_model.pb", (HALF / "saved_model.pb").read_bytes())
            # The status is asked for too: nothing but the file's absence may be what is waited for.
            command.until(lambda: "variables.index" in command.versions().get(1, ("", ""))[1])
            assert command.versions()[1][0] == "START"
            assert command.get("/readyz").status_code == 503
            store.put(f"1/{VARIABLES[0]}", (HALF / VARIABLES[0]).read_bytes())
            command.until(lambda: "variables.data-00000-of-00001" in command.versions()[1][1])
            store.put(f"1/{VARIABLES[1]}", (HALF / VARIABLES[1]).read_bytes())
            command.until_ready()
            assert command.predict().json() == {"predictions": [2.5]}
            with Caller(command) as caller:
                for name in ("saved_model.pb", VARIABLES[1]):
                    store.put(f"2/{name}", (HALF / name).read_bytes())
                command.until(lambda: "variables.index" in command.versions().get(2, ("", ""))[1])
                assert command.versions()[1][0] == "AVAILABLE"
                store.put(f"2/{VARIABLES[0]}", (HALF / VARIABLES[0]).read_bytes())
                command.until(lambda: _states(command) == {2: "AVAILABLE", 1: "END"})
                store.put("3.tar.gz", packed())
                command.until(lambda: _states(command) == {3: "AVAILABLE", 2: "END", 1: "END"})
            assert caller.failures == []
            assert caller.answered > 10
            command.process.terminate()
            assert command.process.wait(SECONDS) == 0


def _states(command: Command) -> dict[int, str]:
    return {version: state for version, (state, _) in command.versions().items()}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.put_tree(HALF, "half/1")
        yield server


def config(*models: tuple[str, str]) -> bytes:
    entries = (f'config {{ name: "{n}" base_path: "{url}" model_platform: "tensorflow" }}' for n, url in models)
    return f"model_config_list {{ {' '.join(entries)} }}".encode()


def test_the_model_config_file_may_lie_in_a_store_and_is_read_again_from_there(s3: S3Server, tmp_path: Path) -> None:
    s3.put("conf/models.config", config(("a", "s3://models/half")))
    flags = ("--model_config_file=s3://models/conf/models.config", "--model_config_file_poll_wait_seconds=1")
    with Command(tmp_path, *flags, f"--cache_directory={tmp_path / 'cache'}", environ=s3.environ) as command:
        assert command.predict("a").status_code == 200
        s3.put("conf/models.config", config(("b", "s3://models/half")))
        command.until(lambda: command.predict("b").status_code == 200)
        command.until(lambda: command.predict("a").status_code == 404)


def test_a_model_config_file_that_is_not_in_the_store_ends_the_start(s3: S3Server, tmp_path: Path) -> None:
    with Command(tmp_path, "--model_config_file=s3://models/conf/none", environ=s3.environ) as command:
        assert command.process.wait(SECONDS) == 1
        assert command.log.read_text().splitlines()[-1] == (
            "zeroserve: Failed to start server. Error: NOT_FOUND: no model config file at 's3://models/conf/none'"
        )


@pytest.mark.parametrize("driver", ["obstore", "fsspec"])
def test_the_storage_driver_is_the_one_that_is_asked_for(s3: S3Server, tmp_path: Path, driver: str) -> None:
    flags = ("--model_base_path=s3://models/half", "--model_name=m", f"--storage_driver={driver}")
    with Command(tmp_path, *flags, f"--cache_directory={tmp_path / 'cache'}", environ=s3.environ) as command:
        assert command.predict().status_code == 200
        maps = Path(f"/proc/{command.process.pid}/maps").read_text()
        assert ("obstore" in maps) is (driver == "obstore")


def test_obstore_is_refused_where_it_cannot_use_the_credentials(s3: S3Server, tmp_path: Path) -> None:
    flags = ("--model_base_path=s3://models/half", "--model_name=m", "--storage_driver=obstore")
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "somebody"}
    with Command(tmp_path, *flags, environ=s3.environ | keys) as command:
        assert command.process.wait(SECONDS) == 1
        assert "use the storage driver 'auto' or 'fsspec'" in command.log.read_text().splitlines()[-1]


def test_a_cloud_event_may_point_at_an_object_in_a_store(s3: S3Server, tmp_path: Path) -> None:
    s3.put("in/request.json", b'{"instances": [1.0, 5.0]}')
    s3.put("in/large.json", b" " * 1001)
    flags = ("--model_base_path=s3://models/half", "--model_name=m", f"--cache_directory={tmp_path / 'cache'}")
    allowed = ("--cloud_event_reference_prefixes=s3://models/in", "--max_reference_bytes=1000")
    with Command(tmp_path, *flags, *allowed, environ=s3.environ) as command:

        def event(uri: str) -> requests.Response:
            headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
            return requests.post(command.url("/"), json={"uri": uri}, headers=headers, timeout=SECONDS)

        answer = event("s3://models/in/request.json")
        assert (answer.status_code, answer.json()) == (200, {"predictions": [2.5, 4.5]})
        assert answer.headers["ce-type"] == "dev.zeroserve.prediction.v1"
        assert event("s3://models/in/none.json").status_code == 404
        # 400, not 429: delivering the same event again would not make the object smaller
        large = event("s3://models/in/large.json")
        assert (large.status_code, "at most 1000" in large.json()["error"]) == (400, True)
        assert event("s3://models/half/1/saved_model.pb").status_code == 403


def metrics(command: Command) -> dict[str, dict[tuple[str, ...], float]]:
    """Each sample's value by its name and its labels' values; Prometheus' own parser gives every counter a `_total`."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(command.get("/monitoring/prometheus/metrics").text):
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(one.labels.values())] = one.value
    return found


def test_each_phase_of_a_load_the_warm_up_and_the_whole_start_are_metrics(s3: S3Server, tmp_path: Path) -> None:
    request = PredictRequest()
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1.0)
    record = PredictionLog(predict_log=PredictLog(request=request)).SerializeToString()
    s3.put_tree(HALF, "warm/1")
    s3.put("warm/1/assets.extra/tf_serving_warmup_requests", encode(record) * 2)
    flags = ("--model_base_path=s3://models/warm", "--model_name=m", f"--cache_directory={tmp_path / 'cache'}")
    with Command(tmp_path, *flags, environ=s3.environ) as command:
        command.until_ready()
        found = metrics(command)
        counts = found["zeroserve_load_seconds_count"]
        assert {key[1]: counts[key] for key in counts if key[1] != "list"} == {"download": 1, "load": 1, "warmup": 1}
        assert counts["m", "list"] >= 1
        assert 0 < found["zeroserve_load_seconds_sum"]["m", "load"] < found["zeroserve_start_to_ready_seconds"][()] < 60
        path = ("s3://models/warm/1", "OK")
        assert found[":tensorflow:serving:model_warmup_records_read_total"] == {path: 2}
        assert found[":tensorflow:serving:model_warmup_latency_count"] == {path: 1}
        assert found["zeroserve_open_handles"] == {("m", "1"): 0}


def test_every_family_is_documented_with_its_labels_and_no_other(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*)\|", page, re.MULTILINE)
    # Those of mixes come with the first mix (test_mixing.py), the deploy function has its own (test_deployer.py).
    rows = [(name, labels) for name, labels in rows if not name.startswith(ELSEWHERE)]
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    revision = ("--model_version=1", "--peer_url=http://{tag}-m.test.svc")
    sink = "--prediction_log_sink=http://127.0.0.1:9/"
    left = (f"--record_to={tmp_path / 'kept'}", "--record_share=1", "--prediction_log_share=1", "--feedback")
    told = ("--traces", "--request_log=all", sink, *left)
    flags = (f"--model_base_path={HALF.parent}", "--model_name=m", "--enable_batching", "--workers=2", *revision, *told)
    with Command(tmp_path, *flags, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}) as command:
        command.until_ready()
        assert command.predict().status_code == 200
        text = command.get("/monitoring/prometheus/metrics").text
    assert set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) == documented.keys()
    for name, labels in re.findall(r"^([^#{\s]+)\{(.*)\} ", text, re.MULTILINE):
        family = re.sub(r"_(bucket|sum|count)$", "", name) if name not in documented else name
        assert set(re.findall(r'(\w+)="', labels)) - {"le"} == documented[family]


def linked(folder: Path, *versions: int) -> Path:
    """A base path on this machine with these versions."""
    folder.mkdir(exist_ok=True)
    for version in versions:
        (folder / str(version)).symlink_to(HALF)
    return folder


def test_versions_that_are_all_removed_stay_loaded_if_so_set(tmp_path: Path) -> None:
    model, other = linked(tmp_path / "m", 1), linked(tmp_path / "other", 1)
    settings = tmp_path / "models.config"
    settings.write_bytes(config(("m", str(model)), ("other", str(other))))
    flags = (f"--model_config_file={settings}", "--servable_versions_always_present")
    with Command(tmp_path, *flags) as command:
        command.until_ready()
        (model / "1").unlink()
        command.until_line("Refusing to unload all versions for Servable: m")
        assert command.predict().status_code == 200


def test_a_model_without_versions_is_listed_beside_the_others(tmp_path: Path) -> None:
    settings = tmp_path / "models.config"
    settings.write_bytes(config(("m", str(HALF.parent)), ("empty", str(linked(tmp_path / "empty")))))
    with Command(tmp_path, f"--model_config_file={settings}") as command:
        assert command.predict().status_code == 200
        answer = command.get("/v1/models")
        assert answer.status_code == 200
        found = {one["name"]: one["model_version_status"] for one in answer.json()["models"]}
        assert found["empty"] == []
        assert [one["state"] for one in found["m"]] == ["AVAILABLE"]
        assert command.get("/v1/models/empty").status_code == 404


@pytest.mark.parametrize(("transition", "first"), [("availability", "loaded"), ("resource", "unloaded")])
def test_a_transition_loads_first_or_unloads_first_as_set(tmp_path: Path, transition: str, first: str) -> None:
    model = linked(tmp_path / "m", 1)
    with Command(tmp_path, f"--model_base_path={model}", "--model_name=m", f"--transition={transition}") as command:
        command.until_ready()
        linked(model, 2)
        command.until(lambda: _states(command) == {2: "AVAILABLE", 1: "END"})
        log = command.log.read_text()
        loaded = log.index("loaded servable version {name: m version: 2}")
        unloaded = log.index("unloaded servable version {name: m version: 1}")
        assert (loaded < unloaded) is (first == "loaded")


@pytest.mark.parametrize(("flag", "status"), [("true", 200), ("false", 503)])
def test_a_model_that_fails_keeps_the_server_from_being_ready_unless_set(
    tmp_path: Path, flag: str, status: int
) -> None:
    settings = tmp_path / "models.config"
    broken = tmp_path / "broken"
    shutil.copytree(HALF, broken / "1")
    (broken / "1" / "assets.extra").mkdir()
    (broken / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no TFRecord")
    settings.write_bytes(config(("m", str(HALF.parent)), ("broken", str(broken))))
    flags = (f"--model_config_file={settings}", "--max_num_load_retries=0", f"--ready_despite_failed_models={flag}")
    with Command(tmp_path, *flags) as command:
        command.until(lambda: command.versions("broken").get(1, ("", ""))[0] == "END")
        assert command.predict().status_code == 200
        assert command.get("/readyz").status_code == status
