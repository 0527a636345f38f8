"""The event of `zeroserve watch`."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from events.decode import of_cloud_event
from events.envelope import envelopes
from events.object_event import ObjectCreated
from events.place import place_of
from events.watch_event import TYPE, Landed, encode

SEEN = datetime(2026, 11, 23, 3, 20, 0, 123456, tzinfo=UTC)


def test_an_event_names_the_place_the_version_and_what_its_files_are() -> None:
    headers, body = encode(Landed("hdfs://namenode/models", "resnet/7", "ab12", 5, 90), SEEN, {})
    (event,) = envelopes(headers, body)
    assert event.attributes == {
        "specversion": "1.0",
        "type": TYPE,
        "source": "hdfs://namenode/models",
        "subject": "resnet/7",
        "id": "ab12",
        "time": "2026-11-23T03:20:00.123456Z",
    }
    assert event.data == {"url": "hdfs://namenode/models/resnet/7", "fingerprint": "ab12", "files": 5, "size": 90}


def test_credentials_of_a_url_are_not_told() -> None:
    headers, body = encode(Landed("https://me:word@host/m?key=word", "7", "ab12", 1, 1), SEEN, {})
    assert "word" not in str(headers) + body.decode()


def test_extensions_are_sent_and_never_replace_an_attribute() -> None:
    headers, _ = encode(Landed("/m", "7", "ab12", 1, 1), SEEN, {"team": "ä%", "type": "mine"})
    (event,) = envelopes(headers, b"{}")
    assert (event.attributes["team"], event.type) == ("ä%", TYPE)


@given(base=st.text(min_size=1, max_size=60), version=st.integers(0, 2**63 - 1), model=st.text(min_size=1, max_size=30))
def test_what_is_encoded_is_decoded_to_the_same_place(base: str, version: int, model: str) -> None:
    landed = Landed(f"/{base}", f"{model}/{version}", "ab12", 1, 9)
    try:
        headers, body = encode(landed, SEEN, {})
    except UnicodeEncodeError:
        return  # a lone surrogate is no name that can be told of
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    (envelope,) = envelopes(headers, body)
    (event,) = of_cloud_event(envelope)
    assert event == ObjectCreated(place_of(landed.url), 9, "ab12", "", tree=True)
