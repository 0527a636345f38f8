"""CloudEvents in and out."""

import asyncio
import json

import pytest
from cloudevents.http import from_http

from functions.cloud_event import CloudEvents, EventRules
from functions.web.message import Request, Response
from loader.status import Code, ServingError

BINARY = {
    b"ce-specversion": b"1.0",
    b"ce-id": b"7",
    b"ce-source": b"/sender",
    b"ce-type": b"upload",
    b"content-type": b"application/json",
}


class Door:
    """Stands where the REST API stands and keeps what it was asked."""

    def __init__(self, status: int = 200) -> None:
        self.asked: list[Request] = []
        self.status = status

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        return Response(self.status, (), b'{"predictions": [2.5]}')


def read(url: str, limit: int) -> bytes:
    if url.endswith("missing.json"):
        raise FileNotFoundError(url)
    return f"{url} {limit}".encode()


def events(door: Door, models: tuple[str, ...] = ("m",), reply_type: str = "t.reply") -> CloudEvents:
    return CloudEvents(EventRules(reply_type, "", ("s3://b/in/",), 99), door.handle, lambda: list(models), read)


def ask(
    door: Door, body: bytes = b"{}", path: str = "/", headers: dict[bytes, bytes] | None = None, **options: object
) -> Response:
    request = Request("POST", path, b"", BINARY | (headers or {}), body)
    return asyncio.run(events(door, **options).handle(request))  # type: ignore[arg-type]


def test_the_data_of_an_event_in_binary_mode_is_a_predict_body() -> None:
    door = Door()
    answer = ask(door, b'{"instances": [1.0]}')
    assert (door.asked[0].path, door.asked[0].body) == ("/v1/models/m:predict", b'{"instances": [1.0]}')
    reply = from_http({key.decode(): value.decode() for key, value in answer.headers}, answer.body)
    assert (reply["type"], reply["source"], reply["causationid"]) == ("t.reply", "/v1/models/m", "7")
    assert reply.data == {"predictions": [2.5]}


def test_the_data_of_an_event_in_structured_mode_is_one_too() -> None:
    door = Door()
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"instances": [1.0]}}
    request = Request("POST", "/", b"", {b"content-type": b"application/cloudevents+json"}, json.dumps(event).encode())
    assert asyncio.run(events(door).handle(request)).status == 200
    assert json.loads(door.asked[0].body) == {"instances": [1.0]}


def test_the_same_event_delivered_twice_is_answered_with_the_same_id() -> None:
    first, second, other = ask(Door()), ask(Door()), ask(Door(), headers={b"ce-id": b"8"})
    ids = [dict(answer.headers)[b"ce-id"] for answer in (first, second, other)]
    assert ids[0] == ids[1] != ids[2]


def test_without_a_reply_type_the_answer_is_204() -> None:
    door = Door()
    assert ask(door, reply_type="").status == 204
    assert len(door.asked) == 1


def test_an_event_of_the_reply_type_is_not_answered_so_that_no_loop_begins() -> None:
    door = Door()
    assert ask(door, headers={b"ce-type": b"t.reply"}).status == 204
    assert door.asked == []


def test_an_error_stays_an_http_error() -> None:
    assert ask(Door(status=503)).status == 503


def test_the_path_or_the_attribute_names_the_model() -> None:
    door = Door()
    ask(door, path="/v1/models/a/versions/2:predict", models=("a", "b"))
    ask(door, headers={b"ce-model": b"b/c"}, models=("a", "b/c"))
    assert [one.path for one in door.asked] == ["/v1/models/a/versions/2:predict", "/v1/models/b%2Fc:predict"]


def test_an_event_for_one_of_many_models_must_say_which() -> None:
    with pytest.raises(ServingError, match="this server has 2 models: a, b"):
        ask(Door(), models=("b", "a"))


def test_a_reference_into_an_allowed_place_is_read() -> None:
    door = Door()
    ask(door, b'{"uri": "s3://b/in/x.json"}')
    assert (door.asked[0].body, door.asked[0].headers[b"content-type"]) == (b"s3://b/in/x.json 99", b"application/json")


def test_a_reference_to_a_picture_is_sent_as_a_picture() -> None:
    door = Door()
    ask(door, b'{"uri": "s3://b/in/x.PNG"}')
    assert door.asked[0].headers[b"content-type"] == b"image/png"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "s3://b/in",
        "s3://b/input/x",
        "s3://b/in/../secret",
        "s3://b/in//x",
        "s3://b/in/%2e%2e/secret",
        "s3://b/in/x?versionId=1",
        "s3://b/in/x::file:///etc/passwd",
        "s3://b/in/x\n",
    ],
)
def test_a_reference_to_another_place_is_refused(uri: str) -> None:
    with pytest.raises(ServingError) as caught:
        ask(Door(), json.dumps({"uri": uri}).encode())
    assert caught.value.code is Code.PERMISSION_DENIED


def test_a_reference_to_nothing_is_not_found() -> None:
    with pytest.raises(ServingError) as caught:
        ask(Door(), b'{"uri": "s3://b/in/missing.json"}')
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("missing", [b"ce-id", b"ce-type", b"ce-source", b"ce-specversion"])
def test_an_event_without_a_required_attribute_is_refused(missing: bytes) -> None:
    headers = {key: value for key, value in BINARY.items() if key != missing}
    with pytest.raises(ServingError, match="not a CloudEvent") as caught:
        asyncio.run(events(Door()).handle(Request("POST", "/", b"", headers, b"{}")))
    assert caught.value.code is Code.INVALID_ARGUMENT
