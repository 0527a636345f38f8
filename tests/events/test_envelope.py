"""CloudEvents are read in all three modes of HTTP, and what is none is refused."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, envelopes, is_cloud_event
from events.error import MalformedError

BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "//s", "ce-type": "t"}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
EVENT = {"specversion": "1.0", "id": "1", "source": "//s", "type": "t"}


def test_binary_mode_takes_attributes_from_headers_and_data_from_the_body():
    headers = BINARY | {"content-type": "application/json", "ce-subject": "a%20b%25", "ce-x": '"quoted"', "host": "h"}
    (event,) = envelopes(headers, b'{"a": 1}')
    assert event.data == {"a": 1}
    assert event.subject == "a b%"
    assert event.attributes["x"] == "quoted"
    assert "host" not in event.attributes


def test_data_that_is_not_json_stays_bytes_and_json_in_a_text_is_read():
    (event,) = envelopes(BINARY | {"content-type": "application/octet-stream"}, b"\xff\0")
    assert event.data == b"\xff\0"
    (event,) = envelopes(BINARY | {"content-type": "text/plain"}, b'{"a": 1}')
    assert event.data == {"a": 1}
    (event,) = envelopes(BINARY, b"")
    assert event.data is None


def test_structured_mode_takes_both_kinds_of_data():
    (event,) = envelopes(STRUCTURED, json.dumps(EVENT | {"data": {"a": 1}, "count": 3}).encode())
    assert (event.data, event.attributes["count"]) == ({"a": 1}, "3")
    encoded = base64.b64encode(b'{"a": 2}').decode()
    (event,) = envelopes(STRUCTURED, json.dumps(EVENT | {"data_base64": encoded}).encode())
    assert event.data == {"a": 2}


def test_a_batch_is_many_events_up_to_its_limit():
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert len(envelopes(headers, json.dumps([EVENT] * 3).encode())) == 3
    assert envelopes(headers, b"[]") == ()
    with pytest.raises(MalformedError, match="1001 entries"):
        envelopes(headers, json.dumps([EVENT] * 1001).encode())


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (STRUCTURED, b"[]"),
        (STRUCTURED, b"{"),
        (STRUCTURED, b'{"specversion": "1.0"}'),
        (STRUCTURED, json.dumps(EVENT | {"specversion": "0.3"}).encode()),
        (STRUCTURED, json.dumps(EVENT | {"id": ""}).encode()),
        (STRUCTURED, json.dumps(EVENT | {"Odd Name": "x"}).encode()),
        (STRUCTURED, json.dumps(EVENT | {"data_base64": "%"}).encode()),
        (BINARY | {"ce-type": ""}, b""),
        (BINARY | {"ce-subject": "%ff"}, b""),
        (BINARY | {"ce-subject": "x" * 5000}, b""),
        (BINARY | {"content-type": "application/json"}, b"{"),
    ],
)
def test_what_is_no_cloud_event_is_refused(headers, body):
    with pytest.raises(MalformedError):
        envelopes(headers, body)


def test_a_request_is_a_cloud_event_by_its_headers():
    assert is_cloud_event(BINARY)
    assert is_cloud_event(STRUCTURED)
    assert not is_cloud_event({"content-type": "application/json"})


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters='"'), min_size=1, max_size=50)


@given(TEXTS, TEXTS, st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, st.lists, max_leaves=5))
def test_an_event_means_the_same_in_both_modes(source, subject, data):
    from urllib.parse import quote  # noqa: PLC0415

    attributes = {"specversion": "1.0", "id": "1", "source": source, "type": "t", "subject": subject}
    body = json.dumps(data).encode()
    binary = {f"ce-{name}": quote(value) for name, value in attributes.items()}
    expected = Envelope(attributes, data)
    assert envelopes(binary | {"content-type": "application/json"}, body) == (expected,)
    assert envelopes(STRUCTURED, json.dumps(attributes | {"data": data}).encode()) == (expected,)
