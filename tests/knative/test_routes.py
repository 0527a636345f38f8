"""Routes follow from the traffic, and what answers predictions reads them as they were meant."""

from hypothesis import given
from hypothesis import strategies as st

from functions.routing.table import parse_routes
from knative.declaration import Declaration, Shadow, Sticky
from knative.names import revision_tag, version_tag
from knative.rollout import Observed, Pin, Wanted, aspired_traffic
from knative.routes import routes, routes_text
from knative.service import Deployment
from knative.traffic import WHOLE, block, scaled


def name(version: int, content: int = 0) -> str:
    return f"m-v{version}-{content:08x}"


def declaration(**more) -> Declaration:
    return Declaration(Deployment("m", "s3://b/m", "i:1"), **more)


WEIGHTS = st.dictionaries(st.builds(name, st.integers(1, 5), st.integers(0, 1)), st.integers(1, 9), min_size=1)


@given(WEIGHTS)
def test_every_revision_that_gets_traffic_is_an_arm_with_its_share(weights):
    percents = scaled(weights, WHOLE)
    newest = {int(one.split("-v")[1].split("-")[0]): one for one in sorted(percents)}
    wanted = Wanted("m", newest, {}, Pin(percents), adopt=True)
    traffic = aspired_traffic(Observed(dict.fromkeys(percents, True)), wanted)
    found = parse_routes(routes_text("m", traffic, declaration()).encode())
    tags = {target.tag: target.revision for target in traffic if target.tag}
    assert {tags[arm.tag]: arm.weight for arm in found.arms} == {one: share for one, share in percents.items() if share}


def test_routes_say_the_key_the_labels_and_the_shadow():
    traffic = block({name(1): 80, name(2): 20}, {"v1": name(1), "v2": name(2), "v3": name(3), "a-b": name(2)})
    wish = declaration(labels={"a_b": 2, "gone": 9}, sticky=Sticky("cookie", "uid"), shadow=Shadow(3, 10))
    assert routes("m", traffic, wish) == {
        "sticky": {"cookie": "uid"},
        "arms": [{"tag": "v1", "percent": 80}, {"tag": "v2", "percent": 20}],
        "labels": {"a_b": "v2"},
        "shadow": {"tag": "v3", "percent": 10, "rtol": 1e-3, "atol": 1e-5},
    }
    parse_routes(routes_text("m", traffic, wish).encode())


def test_a_shadow_that_is_not_deployed_gets_nothing():
    traffic = block({name(1): WHOLE}, {"v1": name(1)})
    assert routes("m", traffic, declaration(shadow=Shadow(3)))["shadow"] is None


def test_without_a_declaration_there_are_arms_only():
    traffic = block({name(1): WHOLE}, {"v1": name(1), "stable": name(1)})
    assert routes("m", traffic, None) == {
        "sticky": None,
        "arms": [{"tag": "v1", "percent": WHOLE}],
        "labels": {},
        "shadow": None,
    }


def test_the_old_revision_of_a_version_is_an_arm_by_its_own_tag():
    old, new = name(2, 0), name(2, 1)
    traffic = block({old: 90, new: 10}, {version_tag(2): new, revision_tag("m", old): old})
    assert routes("m", traffic, None)["arms"] == [
        {"tag": "v2-00000000", "percent": 90},
        {"tag": "v2", "percent": 10},
    ]


def test_what_somebody_else_named_is_no_arm():
    assert routes("m", block({"m-00001": WHOLE}, {}), None)["arms"] == []
