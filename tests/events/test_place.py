"""One thing in storage is one place, whatever it is called; names are compared byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.place import Place, place_of, version_below


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://b/models/m", "s3a://b/models/m"),
        ("gs://b/m", "gcs://b/m"),
        ("abfs://c@acct.dfs.core.windows.net/m", "wasbs://c@acct.blob.core.windows.net/m"),
        ("hdfs://namenode:8020/m", "webhdfs://user@namenode:9870/m"),
        ("/models/m", "file:///models/m"),
        ("/models/a b", "file:///models/a%20b"),
        ("https://host/m", "http://user:secret@HOST/m"),
    ],
)
def test_two_names_of_one_thing_are_one_place(one, other):
    assert place_of(one) == place_of(other)


@pytest.mark.parametrize(
    ("base", "url", "name"),
    [
        ("s3://b/models/m", "s3://b/models/m/7/saved_model.pb", "7/saved_model.pb"),
        ("s3://b/models/m/", "s3://b/models/m/7/saved_model.pb", "7/saved_model.pb"),
        ("s3://b", "s3://b/7/x", "7/x"),
        ("s3://b/models/m", "s3://b/models/m", ""),
        ("s3://b/models/m", "s3://b/models/m2/7/x", None),
        ("s3://b/models/m", "s3://b2/models/m/7/x", None),
        ("s3://b/models/m", "gs://b/models/m/7/x", None),
        ("s3://b/models/m", "s3://b/models/M/7/x", None),
        ("s3://b/models/m", "s3://b//models/m/7/x", None),
        ("s3://b/models/m", "s3://b/models%2Fm/7/x", None),
        ("s3://b/models/m", "s3://b/models/m/7/a?b#c", "7/a?b#c"),
        ("az://c/m", "abfs://c@acct.dfs.core.windows.net/m/7/x", "7/x"),
        ("abfs://c@other.dfs.core.windows.net/m", "abfs://c@acct.dfs.core.windows.net/m/7/x", None),
        ("webhdfs://namenode:9870/m", "hdfs:///m/7/x", "7/x"),
        ("webhdfs://namenode:9870/m", "hdfs://other/m/7/x", None),
    ],
)
def test_a_place_below_a_base_path_has_a_name_there(base, url, name):
    assert place_of(url).below(place_of(base)) == name


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("7/saved_model.pb", 7),
        ("00000123/x", 123),
        ("7", 7),
        ("7.tar.gz", 7),
        ("7.zip", 7),
        ("7.zip/x", None),
        ("tmp/7/x", None),
        ("v7/x", None),
        ("\u0667/x", None),  # ARABIC-INDIC DIGIT SEVEN
        ("\uff17/x", None),  # FULLWIDTH DIGIT SEVEN
        ("7\u200b/x", None),  # ZERO WIDTH SPACE
        (" 7/x", None),
        ("7_0/x", None),
        ("0x7/x", None),
        ("9223372036854775807/x", 9223372036854775807),
        ("9223372036854775808/x", None),
        ("9" * 5000 + "/x", None),
        ("", None),
    ],
)
def test_only_plain_digits_that_fit_name_a_version(name, version):
    assert version_below(name) == version


@given(st.text(), st.text(), st.text())
def test_what_is_put_below_a_folder_is_found_there(bucket, folder, name):
    base = Place("s3", bucket, folder.strip("/"))
    if not base.key:
        assert Place("s3", bucket, name).below(base) == name
    elif name.strip("/"):
        assert Place("s3", bucket, f"{base.key}/{name}").below(base) == name


@given(st.text())
def test_any_text_is_some_place(url):
    assert place_of(url).below(place_of(url)) is not None
