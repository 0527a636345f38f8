"""Events about rollouts reach a real sink, and never hold anything up."""

import pytest

from events.door import SWEEPS
from events.envelope import envelopes
from events.rollout_event import RolloutEvents
from functions.commands.events import EVENT_TYPES
from tests.servers.sink import sink_server


def test_an_event_is_a_cloud_event_that_our_own_door_reads():
    with sink_server() as sink:
        tell = RolloutEvents(sink.url, "models", {"team": "ä\r\nce-type: lie", "type": "lie"})
        tell("promoted", "resnet", {"revision": "resnet-v7-0a1b2c3d", "version": 7, "percent": 100})
        received = sink.next()
        tell.close()
    (event,) = envelopes(received.headers, received.body)
    assert event.type == "com.zeroserve.rollout.promoted.v1"
    assert event.source == "/apis/serving.knative.dev/v1/namespaces/models/services/resnet"
    assert event.subject == "resnet"
    assert event.attributes["team"] == "ä\r\nce-type: lie"
    assert event.data == {
        "service": "resnet",
        "namespace": "models",
        "revision": "resnet-v7-0a1b2c3d",
        "version": 7,
        "percent": 100,
    }


def test_a_sink_that_is_busy_is_asked_again_with_the_same_event(monkeypatch):
    monkeypatch.setattr("events.rollout_event.PAUSE_SECONDS", 0.01)
    with sink_server((503, {}), (429, {})) as sink:
        tell = RolloutEvents(sink.url, "models")
        tell("failed", "resnet", {"reason": "gate signatures"})
        ids = {sink.next().headers["ce-id"] for _ in range(3)}
        tell.close()
    assert len(ids) == 1


def test_a_sink_that_refuses_is_not_asked_again(caplog):
    with sink_server((400, {})) as sink:
        tell = RolloutEvents(sink.url, "models")
        tell("step", "resnet", {})
        tell.close()
        assert sink.received.qsize() == 1
    assert "400" in caplog.text


def test_what_is_no_address_is_refused_at_the_start():
    with pytest.raises(ValueError, match="is no sink"):
        RolloutEvents("broker", "models")


def test_a_function_that_ends_asks_for_a_sweep_of_a_type_that_the_trigger_lets_through():
    with sink_server() as sink:
        tell = RolloutEvents(sink.url, "models")
        tell.sweep("it ends")
        received = sink.next()
        tell.close()
    (event,) = envelopes(received.headers, received.body)
    assert event.type in SWEEPS & set(EVENT_TYPES)
    assert event.data == {"namespace": "models", "reason": "it ends"}


def test_a_sink_that_wants_to_know_who_sends_is_shown_the_token_as_it_is_now(tmp_path):
    file = tmp_path / "token"
    with sink_server() as sink:
        tell = RolloutEvents(sink.url, "models", token_file=file)
        for token in ("first", "renewed"):
            file.write_text(f"{token}\n")
            tell("step", "resnet", {})
            assert sink.next().headers["authorization"] == f"Bearer {token}"
        tell.close()
