"""What the gateway protects against, attacked.

Keys and tokens that leak or are made up, limits that are evaded, requests that are two, callers that are slow, models
that fail, lines of the log that lie.
"""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

import loader.protos as _protos
from functions.commands.gateway_run import envoy_program, running, write_keys
from knative.gateway import envoy
from knative.gateway.settings import Gateway, Jwt, parse_limit
from tests.functions.gateways import ALICE, BOB, Entry, entry
from tests.functions.recording import recorder

assert _protos
from tensorflow_serving.apis import predict_pb2  # noqa: E402

ISSUER = "https://issuer.example"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def eventually(holds: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def raw(here: Entry, *headers: str, body: bytes = b"{}", path: str = "/v1/models/m:predict") -> int:
    """The status of a request that is sent as it stands; 0 where the connection is closed without one."""
    text = "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *headers, "", ""])
    with socket.create_connection(("127.0.0.1", here.port), timeout=30) as connection:
        connection.sendall(text.encode() + body)
        with connection.makefile("rb") as answer:
            first = answer.readline().split()
    return int(first[1]) if first else 0


@pytest.fixture(scope="module")
def models() -> Iterator[tuple[str, list[dict[str, str]]]]:
    with recorder() as found:
        yield found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, models: tuple[str, list[dict[str, str]]]) -> Iterator[Entry]:
    with entry(tmp_path_factory.mktemp("gateway"), Gateway(backends={"m": models[0]})) as found:
        yield found


# Requests


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (("content-length: 2", "transfer-encoding: chunked"), b"2\r\n{}\r\n0\r\n\r\n", 400),
        (("content-length: 2", "content-length: 30"), b"{}", 400),
        (("content-length: 2, 30",), b"{}", 400),
        (("content-length: -1",), b"{}", 400),
        (("transfer-encoding: chunked, identity",), b"2\r\n{}\r\n0\r\n\r\n", 501),
        (("transfer-encoding: xchunked",), b"2\r\n{}\r\n0\r\n\r\n", 501),
        (("upgrade: websocket", "connection: upgrade", "content-length: 2"), b"{}", 403),
        ((f"x-large: {'a' * 70_000}", "content-length: 2"), b"{}", 431),
        ((*(f"x-{number}: a" for number in range(200)), "content-length: 2"), b"{}", 431),
        (("x-b: a\x01b", "content-length: 2"), b"{}", 400),
        (("x_under: a", "content-length: 2"), b"{}", 400),
    ],
)
def test_a_request_that_servers_could_read_in_two_ways_reaches_no_model(
    here: Entry, models: tuple[str, list[dict[str, str]]], headers: tuple[str, ...], body: bytes, status: int
) -> None:
    before = len(models[1])
    assert raw(here, f"x-api-key: {ALICE}", *headers, body=body) == status
    assert len(models[1]) == before


def test_a_second_request_inside_a_body_is_a_body(here: Entry, models: tuple[str, list[dict[str, str]]]) -> None:
    inner = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    before = len(models[1])
    assert raw(here, f"x-api-key: {ALICE}", f"content-length: {len(inner)}", body=inner) == 200
    assert [one["size"] for one in models[1][before:]] == [str(len(inner))]


def test_an_upgrade_to_http2_is_not_taken_and_opens_no_tunnel(
    here: Entry, models: tuple[str, list[dict[str, str]]]
) -> None:
    before = len(models[1])
    upgrade = ("upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__", "connection: upgrade, http2-settings")
    assert raw(here, f"x-api-key: {ALICE}", *upgrade, "content-length: 2") == 200
    assert not {"upgrade", "http2-settings"} & set(models[1][before])


def test_headers_that_steer_envoy_steer_nothing(here: Entry, models: tuple[str, list[dict[str, str]]]) -> None:
    before = len(models[1])
    steer = ("x-envoy-upstream-rq-timeout-ms: 1", "x-envoy-max-retries: 100", "x-envoy-retry-on: 5xx")
    assert raw(here, f"x-api-key: {ALICE}", *steer, "x-envoy-original-path: /x", "content-length: 2") == 200
    assert not [name for name in models[1][before] if name.startswith("x-envoy") and "external" not in name]


def test_a_header_that_is_declared_for_one_hop_does_not_take_the_clients_name_away(
    here: Entry, models: tuple[str, list[dict[str, str]]]
) -> None:
    before = len(models[1])
    hop = "connection: x-zeroserve-gateway-client, x-zeroserve-gateway-model"
    assert raw(here, f"x-api-key: {ALICE}", hop, "content-length: 2") in {200, 400}
    assert {one["x-zeroserve-gateway-client"] for one in models[1][before:]} <= {"alice"}


# Keys


@pytest.mark.parametrize(
    "headers",
    [
        ("x-api-key: wrong", f"x-api-key: {ALICE}"),
        ("x-api-key: wrong", f"authorization: Bearer {BOB}"),
        (f"authorization: Basic {ALICE}",),
        (f"x-api-key: {ALICE},{BOB}",),
        (f"x-api-key: {ALICE[:-1]}%30",),
        (f"cookie: x-api-key={ALICE}",),
        ("x-zeroserve-gateway-client: alice",),
        ("x-api-key:",),
    ],
)
def test_no_mixture_of_headers_is_a_key(
    here: Entry, models: tuple[str, list[dict[str, str]]], headers: tuple[str, ...]
) -> None:
    before = len(models[1])
    assert raw(here, *headers, "content-length: 2") == 401
    assert raw(here, "content-length: 2", path=f"/v1/models/m:predict?x-api-key={ALICE}&api_key={ALICE}") == 401
    assert len(models[1]) == before


def test_no_model_sees_a_key_not_even_a_second_one(here: Entry, models: tuple[str, list[dict[str, str]]]) -> None:
    before = len(models[1])
    assert raw(here, f"x-api-key: {ALICE}", f"authorization: Bearer {BOB}", "content-length: 2") == 200
    (got,) = models[1][before:]
    assert not any(ALICE in value or BOB in value for value in got.values())


# Tokens


@contextlib.contextmanager
def issuer(keys: list[dict[str, Any]]) -> Iterator[str]:
    """Gives its keys over HTTP, as they are when it is asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = json.dumps({"keys": keys}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/keys"
        finally:
            listening.shutdown()
            thread.join()


def claims(**more: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "sub": "dora", "exp": int(time.time()) + 600} | more


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_keys_of_an_issuer_at_a_url_are_fetched_and_new_ones_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knative.gateway.who.KEYS_SECONDS", "1s")
    first, second = (ECKey.generate_key("P-256", {"kid": kid}) for kid in ("1", "2"))
    keys = [first.as_dict(private=False)]
    with recorder() as (address, seen), issuer(keys) as url:
        wanted = Gateway(backends={"m": address}, keys=False, jwt=Jwt(ISSUER, keys_url=url))
        with entry(tmp_path, wanted) as here:

            def status(key: ECKey) -> int:
                words = jwt.encode({"alg": "ES256", "kid": key.kid}, claims(), key)
                return here.predict("", model="m", authorization=f"Bearer {words}").status

            eventually(lambda: status(first) == 200)
            assert status(second) == 401
            keys.append(second.as_dict(private=False))
            eventually(lambda: status(second) == 200)
            keys.remove(first.as_dict(private=False))
            eventually(lambda: status(first) == 401)
            assert {one["x-zeroserve-gateway-client"] for one in seen} == {"dora"}


def test_tokens_whose_algorithm_is_turned_are_no_tokens(tmp_path: Path) -> None:
    key = RSAKey.generate_key(2048, {"kid": "1"})
    public = key.as_dict(private=False)
    trusted = Jwt(ISSUER, keys=json.dumps({"keys": [public]}))

    def signed_with_the_public_key(secret: bytes) -> str:
        words = f"{part({'alg': 'HS256', 'kid': '1'})}.{part(claims())}"
        mac = hmac.new(secret, words.encode(), hashlib.sha256).digest()
        return f"{words}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"

    good = jwt.encode({"alg": "RS256", "kid": "1"}, claims(), key)
    head, _, signature = good.split(".")
    bad = {
        "none": f"{part({'alg': 'none'})}.{part(claims())}.",
        "None": f"{part({'alg': 'None', 'kid': '1'})}.{part(claims())}.{signature}",
        "public key as a secret": signed_with_the_public_key(key.as_pem(private=False)),
        "public JWK as a secret": signed_with_the_public_key(json.dumps(public).encode()),
        "key of its own": jwt.encode(
            {"alg": "RS256", "jwk": public}, claims(), RSAKey.generate_key(2048, {"kid": "1"})
        ),
        "other claims": f"{head}.{part(claims(sub='root'))}.{signature}",
        "not yet": jwt.encode({"alg": "RS256", "kid": "1"}, claims(nbf=int(time.time()) + 600), key),
        "four parts": f"{good}.x",
        "much": "a" * 50_000,
    }
    with recorder() as (address, seen):
        wanted = Gateway(backends={"m": address}, jwt=trusted)
        with entry(tmp_path, wanted) as here:
            for name, words in bad.items():
                assert here.predict("", model="m", authorization=f"Bearer {words}").status in {401, 431}, name
            assert not seen
            assert here.predict("", model="m", authorization=f"Bearer {good}").status == 200
            # Beside a key the token is not asked for; the model does not get it either.
            assert here.predict(ALICE, model="m", authorization=f"Bearer {good}").status == 200
            assert [one["x-zeroserve-gateway-client"] for one in seen] == ["dora", "alice"]
            assert not any(good in value for one in seen for value in one.values())


# Limits


def test_a_quota_of_a_day_holds_beside_the_limit_of_a_second(tmp_path: Path) -> None:
    limits = tuple(map(parse_limit, ("100/s", "3/d")))
    with recorder() as (address, seen), entry(tmp_path, Gateway(backends={"m": address}, client_limits=limits)) as here:
        answers = [here.predict(model="m") for _ in range(5)]
        assert [one.status for one in answers] == [200] * 3 + [429] * 2
        assert int(answers[-1].headers["retry-after"]) > 3600
        assert len(seen) == 3


def test_a_client_does_not_get_a_limit_of_its_own_by_another_address_or_another_spelling(tmp_path: Path) -> None:
    wanted = Gateway(keys=False, client_limits=(parse_limit("2/h"),))
    with recorder() as (address, seen), entry(tmp_path, replace(wanted, backends={"m": address})) as here:
        found = [here.predict("", model="m", x_forwarded_for=f"10.0.0.{one}").status for one in range(5)]
        assert found == [200, 200, 429, 429, 429]
        assert len(seen) == 2
    wanted = Gateway(model_limits=(parse_limit("2/h"),))
    with recorder() as (address, seen), entry(tmp_path, replace(wanted, backends={"o-ne": address})) as here:
        names = ("o_ne", "o-ne", "O_NE", "%6f_ne", "o-nE")
        assert [here.predict(model=name).status for name in names] == [200, 200, 429, 429, 429]
        versions = ("versions/1", "labels/stable")
        asked = [here.ask("POST", f"/v1/models/o_ne/{one}:predict", b"{}").status for one in versions]
        assert [*asked, here.ask("POST", "/v2/models/o_ne/infer", b"{}").status] == [429] * 3
        assert len(seen) == 2


def test_a_call_cannot_be_counted_for_another_model_than_its_message_names(tmp_path: Path) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "dear"
    with recorder() as (address, seen):
        wanted = Gateway(backends={"dear": address, "cheap": address}, model_limits=(parse_limit("dear=1/h"),))
        with entry(tmp_path, wanted) as here, grpc.insecure_channel(f"127.0.0.1:{here.port}") as channel:
            call = channel.unary_unary(PREDICT)
            metadata = (("x-api-key", ALICE), ("x-zeroserve-model", "cheap"))
            with pytest.raises(grpc.RpcError) as refused:
                call(request.SerializeToString(), metadata=metadata, timeout=60)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "another model" in refused.value.details()
            assert not seen


def test_limits_hold_while_many_ask_at_once(tmp_path: Path) -> None:
    wanted = Gateway(client_limits=(parse_limit("20/h"),))
    statuses: list[int] = []
    with recorder() as (address, seen), entry(tmp_path, replace(wanted, backends={"m": address})) as here:
        threads = [
            threading.Thread(target=lambda: statuses.extend(here.predict(model="m").status for _ in range(10)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (statuses.count(200), statuses.count(429)) == (20, 60)
        assert len(seen) == 20


# Callers that are slow


def test_callers_that_send_slowly_are_let_go_and_reach_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy, "HEADER_SECONDS", "0.3s")
    monkeypatch.setattr(envoy, "BODY_SECONDS", "0.6s")
    with recorder() as (address, seen), entry(tmp_path, Gateway(backends={"m": address})) as here:
        for text in (
            "POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\nx-a: ",
            f"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\nx-api-key: {ALICE}\r\ncontent-length: 100\r\n\r\n{{",
        ):
            with socket.create_connection(("127.0.0.1", here.port), timeout=20) as slow:
                slow.sendall(text.encode())
                assert slow.recv(4096)[:13] == b"HTTP/1.1 408 "
        assert not seen


# Models that fail


def test_a_request_whose_connection_failed_is_tried_again_and_answered(tmp_path: Path) -> None:
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))  # takes no connection yet
        address = f"127.0.0.1:{later.getsockname()[1]}"
        wanted = Gateway(backends={"m": address}, retries=10, ejection_seconds=0)
        with entry(tmp_path, wanted) as here:

            def answer() -> None:
                eventually(lambda: 'upstream_rq_retry{envoy_cluster_name="models"} 0' not in here.metrics())
                later.listen()
                connection, _ = later.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                    connection.recv(1)

            thread = threading.Thread(target=answer)
            thread.start()
            assert here.predict(model="m").status == 200
        thread.join()


def test_an_answer_is_an_answer_and_never_asked_for_again(tmp_path: Path) -> None:
    for status in (500, 502, 503, 504, 429):
        with recorder(status) as (address, seen):
            wanted = Gateway(backends={"m": address}, retries=5, ejection_seconds=0)
            (tmp_path / str(status)).mkdir()
            with entry(tmp_path / str(status), wanted) as here:
                assert here.predict(model="m").status == status
            assert len(seen) == 1


def test_a_model_that_was_left_alone_is_asked_again_after_a_while(tmp_path: Path) -> None:
    with recorder(*[503] * 5, 200) as (address, seen), contextlib.ExitStack() as stack:
        here = stack.enter_context(entry(tmp_path, Gateway(backends={"m": address}, ejection_seconds=1)))
        for _ in range(5):
            here.predict(model="m")
        assert here.predict(model="m").status == 503
        assert len(seen) == 5
        eventually(lambda: here.predict(model="m").status == 200)


# What is told


def test_each_request_is_one_line_without_secrets_that_nobody_can_forge(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys", {ALICE: "alice"})
    forged = 'x"}\\n{"client":"root"'
    with recorder() as (address, _), (tmp_path / "lines").open("wb") as lines:
        wanted = Gateway(backends={"m": address})
        started = running(
            wanted, envoy_program(), address="127.0.0.1", port=0, keys_folder=tmp_path / "keys", lines=lines
        )
        with started as (port, metrics, _):
            here = Entry(port, metrics, tmp_path / "keys")
            traced = {"x_request_id": "of-the-caller", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
            assert here.ask("POST", "/v1/models/m:predict?secret=1", b"{}", user_agent=forged, **traced).status == 200
            assert here.predict("wrong-key-0123456789", model="m").status == 401
            assert here.predict("", model="m", authorization="Bearer abc.def.ghi").status == 401
            assert here.ask("POST", '/v1/models/m"}:predict', b"{}").status == 404
            assert here.ask("GET", "/healthz").status == 200

            def written() -> list[str]:
                return (tmp_path / "lines").read_text().splitlines()

            eventually(lambda: len(written()) >= 4)
        found = [json.loads(line) for line in written()]
    assert [one["status"] for one in found] == [200, 401, 401, 404]
    good = found[0]
    assert (good["client"], good["model"], good["path"]) == ("alice", "m", "/v1/models/m:predict")
    assert good["user_agent"] == forged
    more = {"time", "request_id", "traceparent", "why", "bytes_in", "bytes_out", "ms", "model_ms", "attempts"}
    assert more <= set(good)
    assert all("client" not in one for one in found[1:3])
    whole = (tmp_path / "lines").read_text()
    for secret in (ALICE, "wrong-key", "abc.def", "secret=1"):
        assert secret not in whole
