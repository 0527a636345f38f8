"""The ASGI application: reading requests, finding doors, limits."""

import asyncio
import gzip
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from functions.asgi import Application, Doors
from functions.readiness import Readiness
from functions.web.body_budget import BodyBudget, BodyHold
from functions.web.message import Request, Response
from loader.status import Code, ServingError

LIMIT = 1000


async def echo(request: Request) -> Response:
    """Answers with what it was asked."""
    if request.body == b"fail":
        raise ServingError(Code.NOT_FOUND, "nothing there")
    if request.body == b"break":
        raise ZeroDivisionError("secret")
    return Response(200, ((b"x-path", request.path.encode()),), request.body)


def application(doors: Doors | None = None) -> Application:
    future: Future[Doors] = Future()
    future.set_result(doors or Doors({"v1": echo}))
    return Application(future, Readiness(list), LIMIT, LIMIT, BodyBudget(LIMIT))


async def call(
    app: Application,
    path: str,
    chunks: Sequence[bytes] = (b"",),
    headers: Sequence[tuple[bytes, bytes]] = (),
    method: str = "POST",
    *,
    gone: bool = False,
) -> tuple[int, dict[bytes, bytes], bytes]:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": gone or number + 1 < len(chunks)}
        for number, chunk in enumerate(chunks)
    ]
    if gone:
        messages.append({"type": "http.disconnect"})
    waiting = iter(messages)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
    }
    await app(scope, receive, send)
    if not sent:
        return 0, {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(one["body"] for one in sent[1:])


def ask(*arguments: Any, **options: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    return asyncio.run(call(application(), *arguments, **options))


def test_the_first_segment_of_the_path_in_any_case_finds_the_door() -> None:
    status, headers, body = ask("/V1/a%2Fb", [b"x"])
    assert (status, body) == (200, b"x")
    assert headers == {b"x-path": b"/V1/a%2Fb", b"content-length": b"1"}


def test_a_path_of_no_door_gets_the_stock_servers_page() -> None:
    assert ask("/v3/x")[0] == 404


def test_a_body_in_pieces_is_one_body() -> None:
    assert ask("/v1/x", [b"a", b"", b"bc"])[2] == b"abc"


@pytest.mark.parametrize("chunks", [[b"x" * (LIMIT + 1)], [b"x" * LIMIT, b"x"], [b"x" * LIMIT, b"", b"xx", b"y"]])
def test_a_body_over_the_limit_is_answered_413(chunks: list[bytes]) -> None:
    status, _, body = ask("/v1/x", chunks)
    assert status == 413
    assert b"--max_request_bytes" in body


def test_a_body_that_announces_too_much_is_refused_before_it_is_read() -> None:
    async def run() -> int:
        async def receive() -> dict[str, Any]:
            raise AssertionError("the body was read")

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": [(b"content-length", b"1001")]}
        await application()(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(run()) == 413


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    assert ask("/v1/x", [b"x" * LIMIT])[0] == 200


def test_bodies_that_together_are_too_much_are_answered_503_and_room_is_made_again() -> None:
    async def ask_beside_another() -> list[Any]:
        app = application()
        other = BodyHold(app.budget)
        other.take(LIMIT // 2)
        small = await call(app, "/v1/x", [b"x" * (LIMIT // 2)])
        refused = await call(app, "/v1/x", [b"x" * (LIMIT // 4)] * 3)
        other.release()
        taken = await call(app, "/v1/x", [b"x" * (LIMIT // 4)] * 3)
        return [small, refused, taken, app.budget.held]

    small, refused, taken, held = asyncio.run(ask_beside_another())
    assert (small[0], refused[0], taken[0], held) == (200, 503, 200, 0)
    assert b"--max_pending_request_bytes" in refused[2]
    assert refused[1][b"retry-after"] == b"1"


def test_grpc_web_is_not_taken_for_grpc() -> None:
    async def never(*_: Any) -> None:
        raise AssertionError

    app = application(Doors({}, grpc=never))
    for kind in (b"application/grpc-web+proto", b"application/grpc-web-text"):
        assert asyncio.run(call(app, "/t.T/Call", headers=[(b"content-type", kind)]))[0] == 404


def test_gzip_is_undone_and_bounded() -> None:
    headers = [(b"content-encoding", b"x-GZIP")]
    assert ask("/v1/x", [gzip.compress(b"hello")], headers)[2] == b"hello"
    assert ask("/v1/x", [gzip.compress(bytes(LIMIT + 1))], headers)[0] == 413


def test_a_client_that_went_away_gets_no_answer() -> None:
    assert ask("/v1/x", [b"a"], gone=True) == (0, {}, b"")


def test_an_error_of_a_door_becomes_its_status() -> None:
    status, _, body = ask("/v1/x", [b"fail"])
    assert (status, body) == (404, b'{\n    "error": "nothing there"\n}')


def test_a_defect_is_logged_and_answered_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "zeroserve.asgi"):
        status, _, body = ask("/v1/x", [b"break"])
    assert status == 500
    assert b"secret" not in body
    assert "ZeroDivisionError" in caplog.text


def test_a_post_with_a_cloud_event_goes_to_the_events_door_whatever_its_path() -> None:
    async def event(request: Request) -> Response:
        return Response(204, (), b"")

    async def run() -> list[int]:
        app = application(Doors({"v1": echo}, event=event))
        headers = [(b"ce-specversion", b"1.0")]
        structured = [(b"content-type", b"application/cloudevents+json")]
        return [
            (await call(app, "/", headers=headers))[0],
            (await call(app, "/v1/x", headers=structured))[0],
            (await call(app, "/v1/x", headers=headers, method="GET"))[0],
        ]

    assert asyncio.run(run()) == [204, 204, 200]


def test_probes_are_answered_while_other_requests_wait_for_the_doors() -> None:
    async def run() -> None:
        doors: Future[Doors] = Future()
        app = Application(doors, Readiness(lambda: ["starting"]), LIMIT, LIMIT, BodyBudget(LIMIT))
        waiting = asyncio.ensure_future(call(app, "/v1/x", [b"x"]))
        assert (await call(app, "/healthz", method="GET"))[0] == 200
        assert (await call(app, "/readyz", method="GET"))[0] == 503
        assert not waiting.done()
        doors.set_result(Doors({"v1": echo}))
        assert (await waiting)[0] == 200

    asyncio.run(run())


def test_a_start_that_failed_is_the_answer_to_every_request() -> None:
    async def run() -> int:
        doors: Future[Doors] = Future()
        doors.set_exception(ServingError(Code.UNAVAILABLE, "no"))
        return (await call(Application(doors, Readiness(list), LIMIT, LIMIT, BodyBudget(LIMIT)), "/v1/x"))[0]

    assert asyncio.run(run()) == 503


def test_lifespan_is_acknowledged() -> None:
    async def run() -> list[str]:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await application()({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(run()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
