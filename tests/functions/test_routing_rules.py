"""The rules of routing: tags, addresses, arms, user keys, the routes file, the comparison. Laws and tables."""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from functions.routing.arm import choose_arm
from functions.routing.comparison import compare
from functions.routing.peer_address import parse_peer_address
from functions.routing.peer_headers import answer_metadata, request_headers, request_metadata
from functions.routing.rest_answer import read_rest_answer
from functions.routing.routes_file import LOOK_SECONDS, RoutesFile
from functions.routing.table import Arm, Routes, UserKey, parse_routes
from functions.routing.tag import is_tag, label_tag, version_tag
from functions.routing.target import Targets
from functions.routing.user_key import MAX_KEY_BYTES, find_key
from knative import names
from knative.error import DeployError
from loader.status import ServingError

LABELS = st.text(st.sampled_from("abzABZ019_-.vV/%é "), max_size=70)


# Tags and addresses.


@given(LABELS)
def test_a_labels_tag_is_the_one_that_was_deployed(label: str) -> None:
    try:
        deployed = names.label_tag(label, "m")
    except DeployError:
        deployed = None
    address = parse_peer_address("http://{tag}-m.ns.svc")
    found = label_tag(label)
    assert (found if found is None or address.fits(found) else None) == deployed


@given(st.integers(0, 2**63 - 1))
def test_a_versions_tag_is_the_one_that_was_deployed(version: int) -> None:
    assert version_tag(version) == names.version_tag(version)


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,70}") | st.text(max_size=80))
def test_a_host_name_has_no_more_parts_than_the_template(text: str) -> None:
    address = parse_peer_address("http://{tag}-m.ns.svc.cluster.local:8080")
    tag = label_tag(text)
    if tag is not None and address.fits(tag):
        host = address.host(tag)
        assert host.endswith("-m.ns.svc.cluster.local")
        assert host.count(".") == 4
        assert address.tag_of(address.authority(tag)) == tag


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://m.ns.svc",
        "https://{tag}-m.ns",
        "http://x{tag}-m.ns",
        "http://{tag}-m.ns/path",
        "http://u@{tag}-m.ns",
        "http://{tag}{tag}",
        "http://{tag}-m.ns:99999",
        "http://{tag}-m.ns?x",
        "http://{tag}-m..ns",
        "ftp://{tag}-m",
    ],
)
def test_an_address_of_peers_that_is_none_ends_the_start(url: str) -> None:
    with pytest.raises(ServingError, match="wanted http://"):
        parse_peer_address(url)


def test_a_tags_address_is_told_from_the_services_own() -> None:
    address = parse_peer_address("http://{tag}-m.ns.svc.cluster.local")
    hosts = {
        "m.ns.example.com": None,
        "v2-m.ns.example.com": "v2",
        "canary-m": "canary",
        "shop-m.example.com": None,
        "a-b-m.ns:80": "a-b",
        "-m.x": None,
        "xm.ns": None,
        "": None,
        "10.0.0.1": None,
    }
    assert {host: address.tag_of(host) for host in hosts} == hosts
    assert address.target("v2") == "v2-m.ns.svc.cluster.local:80"
    assert parse_peer_address("http://{tag}-m.ns", "[::1]:80").target("v2") == "[::1]:80"


@given(st.text(st.sampled_from("/vmodels12:predict.%2elabinfr"), max_size=60))
def test_no_path_makes_the_targets_fail(path: str) -> None:
    targets = Targets()
    found = targets.of("/v1/models/" + path)
    assert found is None or found.path_of(7).startswith("/v")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v1/models/m:predict", ("m", None, None, True)),
        ("/V1/models/m/versions/007:classify", ("m", 7, None, True)),
        ("/v1/models/labels/labels/a%5Fb:regress", ("labels", None, "a_b", True)),
        ("/v1/models/m/versions/7/metadata", ("m", 7, None, False)),
        ("/v2/models/m/infer", ("m", None, None, True)),
        ("/v2/models/m/versions/canary/infer", ("m", None, "canary", True)),
        ("/v2/models/m/versions/9", ("m", 9, None, False)),
        ("/v1/models/m/versions/99999999999999999999:predict", None),
        ("/v1/models", None),
        ("/v1/models/m/versions/1:explain", None),
        ("/v2/health/live", None),
    ],
)
def test_a_path_names_a_model_and_a_version_or_a_label(path: str, wanted: tuple[Any, ...] | None) -> None:
    found = Targets().of(path)
    assert (found and (found.name, found.version, found.label, found.predicts)) == wanted


def test_the_version_stands_in_for_the_label_and_for_nothing_else() -> None:
    found = Targets().of("/v1/models/labels/labels/labels:predict")
    assert found is not None
    assert found.path_of(3) == "/v1/models/labels/versions/3:predict"


# Arms.

KEYS = [b"user-%d" % number for number in range(20_000)]


def shares(*weights: tuple[str, float]) -> tuple[Arm, ...]:
    return tuple(Arm(tag, weight) for tag, weight in weights)


@given(st.binary(min_size=1, max_size=64), st.lists(st.integers(0, 100), min_size=1, max_size=6), st.randoms())
def test_a_users_arm_depends_on_the_weights_alone(key: bytes, weights: list[int], random: Any) -> None:
    assume(any(weights))
    arms = shares(*((f"v{index}", weight) for index, weight in enumerate(weights)))
    chosen = choose_arm(arms, key)
    assert {arm.tag: arm.weight for arm in arms}[chosen] > 0
    assert choose_arm(random.sample(arms, len(arms)), key) == chosen
    assert choose_arm([Arm(arm.tag, arm.weight / 8) for arm in arms], key) == chosen


@given(st.binary(min_size=1, max_size=64), st.integers(1, 99), st.integers(1, 99))
def test_a_user_leaves_an_arm_only_for_one_that_gained_on_it(key: bytes, before: int, after: int) -> None:
    one = choose_arm(shares(("v1", before), ("v2", 100 - before)), key)
    other = choose_arm(shares(("v1", after), ("v2", 100 - after)), key)
    if one != other:
        assert other == ("v1" if after > before else "v2")


@pytest.mark.parametrize("percent", [1, 20, 50, 80])
def test_shares_are_binomial(percent: int) -> None:
    arms = shares(("v1", percent), ("v2", 100 - percent))
    share = percent / 100
    found = sum(choose_arm(arms, key) == "v1" for key in KEYS)
    # 3.29 standard deviations: outside in one of a thousand draws, and the draw is always this one
    assert abs(found - share * len(KEYS)) < 3.29 * math.sqrt(len(KEYS) * share * (1 - share))


def moved(one: tuple[Arm, ...], other: tuple[Arm, ...]) -> float:
    return sum(choose_arm(one, key) != choose_arm(other, key) for key in KEYS) / len(KEYS)


def test_from_80_20_to_70_30_a_tenth_of_the_users_moves_and_no_more() -> None:
    assert abs(moved(shares(("v1", 80), ("v2", 20)), shares(("v1", 70), ("v2", 30))) - 0.1) < 0.01


def test_of_three_arms_at_most_twice_the_least_moves() -> None:
    one = shares(("v1", 50), ("v2", 30), ("v3", 20))
    other = shares(("v1", 50), ("v2", 20), ("v3", 30))
    assert 0.09 < moved(one, other) < 0.2


# The user's key.


def test_a_key_is_found_in_a_header_or_a_cookie() -> None:
    headers = {b"x-user-id": b" ada ", b"cookie": b'a=1; uid="bob"; uidx=2'}
    assert find_key(UserKey("header", "x-user-id"), headers, b"") == b"ada"
    assert find_key(UserKey("cookie", "uid"), headers, b"") == b"bob"
    assert find_key(UserKey("cookie", "id"), headers, b"") is None
    assert find_key(UserKey("header", "x-other"), headers, b"") is None
    assert find_key(UserKey("header", "x-user-id"), {b"x-user-id": b"x" * (MAX_KEY_BYTES + 1)}, b"") is None


NAMES = st.sampled_from(["user", "id", "instances", 'a"b', "ü", "u\\"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.lists(st.tuples(NAMES, VALUES), max_size=4)


def expected(members: list[tuple[str, Any]], path: list[str]) -> bytes | None:
    value: Any = next((value for name, value in members if name == path[0]), None)
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return text if 0 < len(text) <= MAX_KEY_BYTES else None
    return b"%d" % value if type(value) is int else None


@given(BODIES, st.sampled_from(["user", "id", "user.id", "ü"]), st.booleans(), st.sampled_from([None, 1]))
def test_a_field_of_the_body_is_found_as_a_parser_finds_it(
    members: list[tuple[str, Any]], path: str, ascii_only: bool, indent: int | None
) -> None:
    # Written member by member: a name may come twice, and the first counts.
    texts = [
        f"{json.dumps(name, ensure_ascii=ascii_only)}: {json.dumps(value, ensure_ascii=ascii_only, indent=indent)}"
        for name, value in members
    ]
    with contextlib.suppress(UnicodeEncodeError):
        body = ("{" + ", ".join(texts) + " }\n").encode()
        assert find_key(UserKey("json", path), {}, body) == expected(members, path.split("."))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"user": "ada", "instances": [1]}', b"ada"),
        (b'{"instances": [[1, 2], [3, 4]], "user": "ada"}', b"ada"),
        (b'{"instances": [1], "user": 42}', b"42"),
        (b'{"user": -0}', b"0"),
        (b'{"instances": [{"user": "eve"}]}', None),
        (b'{"instances": [{"user": "eve"}], "user": "ada"}', b"ada"),
        (b'{"instances": ["\\"user\\": \\"eve\\"}"]}', None),
        (b'{"\\u0075ser": "ada"}', b"ada"),
        (b'{"user": 1.5}', None),
        (b'{"user": null}', None),
        (b'{"user": ""}', None),
        (b'{"user": ["a"]}', None),
        (b"[]", None),
        (b"", None),
        (b"\xff", None),
        (b'{"user"', None),
    ],
)
def test_a_field_is_only_found_at_the_top_of_the_body(body: bytes, wanted: bytes | None) -> None:
    assert find_key(UserKey("json", "user"), {}, body) == wanted


# The file.


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += LOOK_SECONDS
        return self.now


def test_the_file_is_read_again_when_a_volume_swaps_its_link_and_a_broken_one_keeps_the_last_good(
    tmp_path: Path,
) -> None:
    broken = []
    file = RoutesFile(str(tmp_path / "routes.json"), lambda: broken.append(1), Clock())
    assert file.routes() == Routes()
    for number, text in enumerate(['{"labels": {"a": "v1"}}', "{", "[]", '{"labels": {"a": "v2"}}']):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "routes.json").write_text(text)
        (tmp_path / "new").symlink_to(folder)
        os.replace(tmp_path / "new", tmp_path / "..data")  # noqa: PTH105  as kubelet does
        if not number:
            (tmp_path / "routes.json").symlink_to("..data/routes.json")
        assert file.routes().labels == {"a": "v2" if number == 3 else "v1"}
        assert file.routes().labels == {"a": "v2" if number == 3 else "v1"}
    assert len(broken) == 2
    (tmp_path / "routes.json").unlink()
    assert file.routes() == Routes()
    (tmp_path / "routes.json").mkdir()
    assert file.routes() == Routes()
    assert len(broken) == 3


def test_the_file_is_not_looked_at_for_every_request(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    path.write_text('{"labels": {"a": "v1"}}')
    file = RoutesFile(str(path), lambda: None, lambda: 5.0)
    assert file.routes().labels == {"a": "v1"}
    path.unlink()
    assert file.routes().labels == {"a": "v1"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[]", "wanted an object"),
        ("[" * 100_000, "not JSON"),
        ('{"sticky": {"header": "a", "json": "b"}}', "sticky"),
        ('{"sticky": {"query": "a"}}', "sticky"),
        ('{"sticky": {"json": "a..b"}}', "sticky.json"),
        ('{"sticky": {"header": ""}}', "sticky.header"),
        ('{"arms": [{"tag": "a.b", "percent": 1}]}', r"arms\[0\].tag"),
        ('{"arms": [{"tag": "v1", "percent": -1}]}', r"arms\[0\].percent"),
        ('{"arms": [{"tag": "v1", "percent": NaN}]}', r"arms\[0\].percent"),
        ('{"arms": [{"tag": "v1", "percent": true}]}', r"arms\[0\].percent"),
        ('{"arms": [{"tag": "v1", "percent": 0}]}', "all percents"),
        ('{"arms": [{"tag": "v1", "percent": 1}, {"tag": "v1", "percent": 1}]}', "twice"),
        ('{"labels": {"a": "../x"}}', "labels.a"),
        ('{"labels": [1]}', "labels"),
        ('{"shadow": {"tag": "v3", "percent": 101}}', "shadow.percent"),
        ('{"shadow": {"percent": 1}}', "shadow.tag"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ServingError, match=problem):
        parse_routes(text.encode())


@given(VALUES)
def test_no_file_makes_the_parser_fail_otherwise(value: Any) -> None:
    for text in (json.dumps(value), json.dumps({"arms": value, "labels": value, "shadow": value, "sticky": value})):
        with contextlib.suppress(ServingError):
            parse_routes(text.encode())


# Headers.

FIELDS = st.dictionaries(
    st.sampled_from([b"connection", b"te", b"x-a", b"host", b"transfer-encoding", b"content-encoding", b"upgrade"]),
    st.binary(max_size=8) | st.sampled_from([b"x-a", b"close, X-A"]),
)


@given(FIELDS, st.booleans())
def test_no_header_of_the_connection_and_no_line_end_goes_on(headers: Mapping[bytes, bytes], inflated: bool) -> None:
    for name, value in request_headers(headers, inflated=inflated):
        assert name in {"x-a", "content-encoding"}
        assert not set(value) & set("\r\n\0")
        assert name != "x-a" or b"x-a" not in headers.get(b"connection", b"").lower()


def test_metadata_that_grpc_would_refuse_does_not_go_on() -> None:
    metadata = [
        ("x-ok", "1"),
        ("x-text", "ü"),
        ("x-bytes-bin", b"\x00\xff"),
        ("x-bytes", b"\xff"),
        ("grpc-timeout", "1S"),
        ("user-agent", "x"),
        ("x-zeroserve-forwarded", "1"),
        ("", "x"),
        ("bad name", "x"),
    ]
    assert request_metadata(metadata) == [("x-ok", "1"), ("x-bytes-bin", b"\x00\xff")]
    assert answer_metadata([("grpc-status-details-bin", b"x"), ("server", "envoy"), ("x-envoy-a", "1")]) == [
        ("grpc-status-details-bin", b"x")
    ]


# The comparison.


def answer(text: str) -> dict[str, Any]:
    return dict(read_rest_answer((text.encode(), {})))


@pytest.mark.parametrize(
    ("here", "there", "where"),
    [
        ('{"predictions": [1.0, 2.0]}', '{"predictions": [1.0005, 2.0]}', ""),
        (
            '{"predictions": [1.0, 2.0]}',
            '{"predictions": [1.0, 3.0]}',
            "predictions[1] is 2, there 3 (1 of 2 differ)",
        ),
        (
            '{"predictions": [[1], [2]]}',
            '{"predictions": [[1]]}',
            "predictions has shape [2, 1], there [1, 1]",
        ),
        (
            '{"predictions": [{"a": 1, "b": "x"}]}',
            '{"predictions": [{"a": 1, "b": "y"}]}',
            "predictions.b[0] is 'x', there 'y'",
        ),
        ('{"outputs": {"a": [1]}}', '{"outputs": {"b": [1]}}', "outputs ['outputs.a'], there ['outputs.b']"),
        ('{"predictions": [NaN, Infinity]}', '{"predictions": [NaN, Infinity]}', ""),
        ('{"predictions": [NaN]}', '{"predictions": [1.0]}', "predictions[0] is nan, there 1 (1 of 1 differ)"),
        ('{"predictions": [[1], [1, 2]]}', '{"predictions": [[1], [1, 2]]}', ""),
        (
            '{"model_name": "m", "model_version": "1", "outputs": [{"name": "y", "shape": [1, 2], "data": [1, 2]}]}',
            '{"model_name": "m", "model_version": "2", "outputs": [{"name": "y", "shape": [1, 2], "data": [1, 5]}]}',
            "y[0, 1] is 2, there 5 (1 of 2 differ)",
        ),
    ],
)
def test_two_answers_differ_where_they_say_something_else(here: str, there: str, where: str) -> None:
    assert compare(answer(here), answer(there), 1e-3, 1e-5).where == where


def test_rows_of_scores_agree_where_their_highest_is_at_the_same_place() -> None:
    here = {"scores": np.array([[0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])}
    there = {"scores": np.array([[0.2, 0.8], [0.4, 0.6], [0.5, 0.5]])}
    found = compare(here, there, 0, 0.3)
    assert (found.where, found.rows, found.rows_same) == ("", 3, 2)
    assert found.largest == pytest.approx(0.2)


ARRAYS = st.lists(st.floats(width=32), min_size=1, max_size=6).map(lambda values: np.array(values, np.float32))


@given(ARRAYS)
def test_an_answer_is_the_same_as_itself(array: Any) -> None:
    found = compare({"y": array}, {"y": array.copy()}, 0.0, 0.0)
    assert found.where == ""
    assert found.largest == 0 or not np.isfinite(array).any()


@given(ARRAYS, ARRAYS)
def test_any_two_answers_can_be_compared(one: Any, other: Any) -> None:
    found = compare({"y": one}, {"y": other}, 1e-3, 1e-5)
    if one.shape == other.shape:
        close = np.allclose(other.astype(float), one.astype(float), rtol=1e-3, atol=1e-5, equal_nan=True)
        assert (found.where == "") == close


def test_a_tag_is_a_dns_label() -> None:
    assert [is_tag(text) for text in ("v1", "a-b", "1a", "a-", "", "A", "a.b", "a" * 64)] == [
        True,
        True,
        *[False] * 6,
    ]
