"""Users that keep their arm, and a shadow that gets copies: real servers behind a gateway."""

import itertools
import json
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import requests

import loader.protos as _protos  # before the messages
from functions.routing.arm import choose_arm
from functions.routing.table import Arm
from tests.functions.command import SECONDS
from tests.functions.http2_client import POST, Http2Client
from tests.functions.revisions import Revisions, running_revisions
from tests.functions.test_routing import OWN, predict_request

assert _protos
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub  # noqa: E402

PATH = "/v1/models/m:predict"
BODY = '{"instances": [1.0]}'
HALF = [{"tag": "v1", "percent": 50}, {"tag": "v2", "percent": 50}]
ANSWERS = {"v1": {"predictions": [2.5]}, "v2": {"predictions": [3.5]}}
TWENTY = [{"tag": "v1", "percent": 20}, {"tag": "v2", "percent": 80}]
GONE = [{"tag": "v1", "percent": 1}, {"tag": "v9", "percent": 99}]
MARKS = itertools.count()
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revisions]:
    """Versions 1 and 2 of model m."""
    with running_revisions(tmp_path_factory.mktemp("service"), 1, 2) as revisions:
        yield revisions


@pytest.fixture(autouse=True)
def _no_faults(service: Revisions) -> Iterator[None]:
    yield
    service.gateway.faults.clear()


def post(service: Revisions, version: int, path: str = PATH, body: str = BODY, **headers: str) -> requests.Response:
    return requests.post(service[version].url(path), body, headers=headers, timeout=SECONDS)


def arm(user: str, *percents: int) -> str:
    """Where a user belongs; half and half unless `percents` says otherwise."""
    first, second = percents or (50, 50)
    return choose_arm((Arm("v1", first), Arm("v2", second)), user.encode())


def until_routes(service: Revisions, **routes: Any) -> None:
    """Writes routes and waits until both revisions follow them; a label that nobody else has tells."""
    mark = f"mark{next(MARKS)}"
    for version in (1, 2):
        service.routes(**routes, labels={mark: f"v{version}"})
        path = f"/v1/models/m/labels/{mark}:predict"
        service[version].until(lambda version=version, path=path: post(service, version, path).status_code == 200)


def test_a_user_of_a_header_gets_one_arm_wherever_the_request_arrives(service: Revisions) -> None:
    until_routes(service, sticky={"header": "X-User-Id"}, arms=HALF)
    for user in USERS:
        for version in (1, 2):
            answer = post(service, version, **{"x-user-id": user})
            assert (answer.headers[OWN], answer.json()) == (arm(user), ANSWERS[arm(user)])
    assert {arm(user) for user in USERS} == {"v1", "v2"}
    for version in (1, 2):
        counted = [service.metric(version, "zeroserve_arm_requests_total", arm=tag, by="user") for tag in ("v1", "v2")]
        assert counted == [sum(arm(user) == tag for user in USERS) for tag in ("v1", "v2")]


def test_a_request_without_a_key_stays_where_it_arrived(service: Revisions) -> None:
    until_routes(service, sticky={"header": "x-user-id"}, arms=HALF)
    for version in (1, 2):
        for headers in ({}, {"x-user-id": ""}, {"x-user-id": "x" * 2000}):
            assert post(service, version, **headers).headers[OWN] == f"v{version}"


def test_a_user_who_names_a_version_or_a_tags_address_gets_it(service: Revisions) -> None:
    until_routes(service, sticky={"header": "x-user-id"}, arms=HALF)
    for user in USERS[:6]:
        assert post(service, 1, "/v1/models/m/versions/2:predict", **{"x-user-id": user}).headers[OWN] == "v2"
        assert post(service, 1, Host="v1-m.test.example.com", **{"x-user-id": user}).headers[OWN] == "v1"
        assert post(service, 1, **{"Knative-Serving-Tag": "v1", "x-user-id": user}).headers[OWN] == "v1"
        assert service[1].get("/v1/models/m").headers[OWN] == "v1"


def test_a_user_of_a_cookie_over_http_1_and_in_crumbs_over_http_2(service: Revisions) -> None:
    until_routes(service, sticky={"cookie": "uid"}, arms=HALF)
    other = next(user for user in USERS if arm(user) == "v2")
    assert post(service, 1, Cookie=f"a=b; uid={other}").headers[OWN] == "v2"
    crumbs = [(b"cookie", b"a=b"), (b"cookie", b"uid=" + other.encode()), (b"cookie", b"z=1")]
    fields = [(name, PATH.encode() if name == b":path" else value) for name, value in POST]
    with Http2Client(service[1].port) as client:
        client.request(1, [*fields, *crumbs], BODY.encode())
        headers, body, _ = client.answer(1)
    assert (headers[OWN.encode()], json.loads(body)) == (b"v2", ANSWERS["v2"])


def test_a_user_of_a_json_field_in_either_protocol(service: Revisions) -> None:
    until_routes(service, sticky={"json": "parameters.user"}, arms=HALF)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    for user in USERS[:8]:
        body = json.dumps({"inputs": [tensor], "parameters": {"user": user}})
        assert post(service, 1, "/v2/models/m/infer", body).headers[OWN] == arm(user)
        body = json.dumps({"instances": [1.0], "parameters": {"user": user}})
        assert post(service, 1, PATH, body).json() == ANSWERS[arm(user)]


def test_a_user_over_grpc_is_named_in_metadata(service: Revisions) -> None:
    until_routes(service, sticky={"header": "x-user-id"}, arms=HALF)
    with grpc.insecure_channel(f"127.0.0.1:{service[2].port}") as channel:
        for user in USERS[:8]:
            metadata = (("x-user-id", user),)
            answer = PredictionServiceStub(channel).Predict(predict_request(), timeout=SECONDS, metadata=metadata)
            assert f"v{answer.model_spec.version.value}" == arm(user)


def test_other_weights_move_users_to_the_arm_that_gained_and_no_others(service: Revisions) -> None:
    until_routes(service, sticky={"header": "x-user-id"}, arms=TWENTY)
    for user in USERS:
        now = post(service, 1, **{"x-user-id": user}).headers[OWN]
        assert now == arm(user, 20, 80)
        assert now == arm(user) or now == "v2"


def test_an_arm_that_is_gone_leaves_its_users_where_they_arrive(service: Revisions) -> None:
    until_routes(service, sticky={"header": "x-user-id"}, arms=GONE)
    answer = post(service, 1, **{"x-user-id": "ada"})
    assert (answer.status_code, answer.headers[OWN]) == (200, "v1")


def test_a_broken_file_keeps_the_last_good_routes_and_is_counted(service: Revisions) -> None:
    until_routes(service, sticky={"header": "x-user-id"}, arms=HALF)
    before = service.metric(1, "zeroserve_routes_broken_total")
    (service.folder / "routes.json").write_text('{"arms": 7}')
    other = next(user for user in USERS if arm(user) == "v2")

    def counted() -> bool:
        assert post(service, 1, **{"x-user-id": other}).headers[OWN] == "v2"
        return service.metric(1, "zeroserve_routes_broken_total") == before + 1

    service[1].until(counted)
    service[1].until_line("the last good routes stay")
    (service.folder / "routes.json").unlink()
    service[1].until(lambda: post(service, 1, **{"x-user-id": other}).headers[OWN] == "v1")


# The shadow.


def shadowed(service: Revisions, result: str) -> float:
    return service.metric(1, "zeroserve_shadow_total", arm="v1", shadow="v2", result=result)


def test_a_shadow_gets_a_copy_and_both_answers_are_compared(service: Revisions) -> None:
    until_routes(service, shadow={"tag": "v2", "percent": 100})
    assert post(service, 1).json() == ANSWERS["v1"]
    service[1].until(lambda: shadowed(service, "different") == 1)
    same = '{"instances": [1.0, 2.0], "signature_name": "id_float32"}'
    assert post(service, 1, body=same).status_code == 200
    service[1].until(lambda: shadowed(service, "same") == 1)
    assert service.metric(1, "zeroserve_shadow_difference_sum", arm="v1", shadow="v2") == 1.0
    service[1].until_line(r"v2 differs from v1: predictions\[0\] is 2.5, there 3.5 \(1 of 1 differ\)")
    assert any(headers.get(b"x-zeroserve-forwarded") == b"1" for _, _, headers in service.gateway.seen)


def test_calls_over_grpc_and_the_open_inference_protocol_are_copied_too(service: Revisions) -> None:
    until_routes(service, shadow={"tag": "v2", "percent": 100})
    before = shadowed(service, "same")
    with grpc.insecure_channel(f"127.0.0.1:{service[1].port}") as channel:
        PredictionServiceStub(channel).Predict(predict_request(), timeout=SECONDS)
    service[1].until(lambda: shadowed(service, "same") == before + 1)
    matrix = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
    body = json.dumps({"inputs": [matrix], "parameters": {"signature_name": "matrix", "binary_data_output": True}})
    assert post(service, 1, "/v2/models/m/infer", body).status_code == 200
    service[1].until(lambda: shadowed(service, "same") == before + 2)
    assert service.metric(1, "zeroserve_shadow_top_rows_total", arm="v1", shadow="v2", top="same") == 1


def test_named_versions_bad_requests_and_the_shadow_itself_are_not_copied(service: Revisions) -> None:
    until_routes(service, shadow={"tag": "v2", "percent": 100})
    before = len(service.gateway.seen)
    assert post(service, 1, "/v1/models/m/versions/1:predict").status_code == 200
    assert post(service, 1, body="{").status_code == 400
    assert post(service, 2).status_code == 200
    assert service[1].get("/v1/models/m").status_code == 200
    # the copy of one more request is the only one that arrives
    assert post(service, 1).status_code == 200
    service[1].until(lambda: len(service.gateway.seen) > before)
    assert [host for host, _, _ in service.gateway.seen[before:]] == [service.host("v2")]


def test_a_shadow_that_hangs_neither_delays_an_answer_nor_fills_the_memory(service: Revisions) -> None:
    until_routes(service, shadow={"tag": "v2", "percent": 100})
    service.gateway.faults[service.host("v2")] = "hang"
    with requests.Session() as session:
        for _ in range(80):
            assert session.post(service[1].url(PATH), BODY, timeout=2).status_code == 200
    # 4 on their way, 64 waiting
    assert shadowed(service, "dropped") == 12
    service[1].process.send_signal(signal.SIGTERM)
    assert service[1].process.wait(SECONDS) == 0
    assert "Task was destroyed" not in service[1].log.read_text()
