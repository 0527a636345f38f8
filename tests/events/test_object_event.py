"""An event asks for a look at the models it is about, and at no other; a hostile name asks for nothing."""

import pytest

from events.object_event import Look, ObjectCreated, look_at
from events.place import place_of

BASE = place_of("s3://b/models/m")


@pytest.mark.parametrize(
    ("url", "look"),
    [
        ("s3://b/models/m/7/saved_model.pb", Look(7)),
        ("s3://b/models/m/7.tar.gz", Look(7)),
        ("s3://b/models/m/7/", Look(7)),
        ("s3://b/models/m/", Look(None)),
        ("s3://b/models/m", Look(None)),
        ("s3://b/models/m/readme.txt", None),
        ("s3://b/models/m/tmp/7/x", None),
        ("s3://b/models", None),
        ("s3://b/models/m2/7/x", None),
        ("s3://b/models/m/7/../../secret/1/x", None),
        ("s3://b/models/m/../m/7/x", None),
        ("s3://b/models/m/7//x", None),
        ("s3://b/models/m/7/a\0b", None),
        ("s3://b/models/m/7/a\x1b[2J", None),
        ("s3://b/models/m/7/a\u202eb", None),
        ("s3://b/models/m/7/\ud800", None),
        ("s3://b/models/m/7/a\\b", None),
        ("s3://b/models/m/7/" + "n" * 300, None),
        ("s3://b/models/m/7/" + "n/" * 1000 + "n", None),
        ("s3://b/models/m/7/%2e%2e/x", Look(7)),  # a name like any other: nothing is decoded twice
    ],
)
def test_a_name_asks_for_a_look_where_it_is_a_safe_name_in_a_version(url, look):
    assert look_at(ObjectCreated(place_of(url)), BASE) == look


def test_a_folder_that_came_asks_for_all_that_lies_below_it():
    above = place_of("s3://b/models")
    assert look_at(ObjectCreated(above, tree=True), BASE) == Look(None)
    assert look_at(ObjectCreated(above), BASE) is None
    assert look_at(ObjectCreated(place_of("s3://b2/models"), tree=True), BASE) is None
