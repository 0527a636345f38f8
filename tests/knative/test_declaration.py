"""A declaration is read as it was written, and one that nobody understands is refused in one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative.declaration import (
    DECLARATION_KEY,
    Declaration,
    Shadow,
    Sticky,
    config_map,
    declaration_of,
    declaration_text,
    parse_declaration,
)
from knative.error import DeployError
from knative.policy import Split, Steps
from knative.service import Deployment

DEPLOYMENTS = st.builds(
    Deployment,
    name=st.sampled_from(["m", "half-plus-two"]),
    url=st.sampled_from(["s3://b/m", "/models/m"]),
    image=st.just("registry/zeroserve:1"),
    namespace=st.sampled_from(["default", "prod"]),
    cpu=st.sampled_from(["", "500m", "2"]),
    memory=st.sampled_from(["", "1Gi"]),
    gpus=st.integers(0, 8),
    min_scale=st.integers(0, 3),
    max_scale=st.sampled_from([0, 9]),
    environment=st.dictionaries(st.sampled_from(["A", "B"]), st.text(max_size=9)),
    environment_secrets=st.lists(st.sampled_from(["s3", "gs"]), unique=True).map(tuple),
    cache=st.sampled_from(["emptyDir", "emptyDir:1Gi", "pvc:c", "memory:1Gi", "hostPath:/cache"]),
    cluster_local=st.booleans(),
)
DECLARATIONS = st.builds(
    Declaration,
    DEPLOYMENTS,
    versions=st.sampled_from(["latest:2", "all", "specific:1,4"]),
    labels=st.dictionaries(st.sampled_from(["stable", "a_b"]), st.integers(1, 9)),
    rollout=st.just(Steps((10, 100), 60)),
    overwritten=st.sampled_from(["refuse", "redeploy"]),
    gates=st.just({"replay": {"rtol": 0.01}}),
    sticky=st.sampled_from([None, Sticky("header", "x-user-id"), Sticky("json", "user.id")]),
    shadow=st.sampled_from([None, Shadow(3), Shadow(3, 0.5, 0.1, 0)]),
)
SMALLEST = {"name": "m", "url": "s3://b/m", "image": "i:1"}


@given(DECLARATIONS)
def test_a_declaration_that_was_written_is_read_as_it_was(declaration):
    assert parse_declaration(declaration_text(declaration)) == declaration


@given(DECLARATIONS)
def test_the_same_wish_is_the_same_text(declaration):
    assert declaration_text(parse_declaration(declaration_text(declaration))) == declaration_text(declaration)


def test_what_is_left_out_has_its_default():
    found = parse_declaration(json.dumps({"deployment": SMALLEST}))
    assert found == Declaration(Deployment("m", "s3://b/m", "i:1"))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "not JSON"),
        ([], "wanted an object, found list"),
        ({}, "wanted deployment"),
        ({"deployment": {"name": "m", "url": "u"}}, "deployment.image is missing"),
        ({"deployment": SMALLEST | {"gpu": 1}}, "'gpu' is not known; did you mean 'gpus'"),
        ({"deployment": SMALLEST | {"gpus": True}}, "deployment.gpus: wanted int, found bool"),
        ({"deployment": SMALLEST | {"environment": {"A": 1}}}, "environment.A: wanted str, found int"),
        ({"deployment": SMALLEST | {"cache": "disk"}}, "cache 'disk'"),
        ({"deployment": SMALLEST, "version": "all"}, "did you mean 'versions'"),
        ({"deployment": SMALLEST, "rollout": "split=1:100"}, "zeroserve split"),
        ({"deployment": SMALLEST, "labels": {"stable": "3"}}, "labels.stable: wanted int, found str"),
        ({"deployment": SMALLEST, "labels": {"v3": 3}}, "how version 3 is addressed"),
        ({"deployment": SMALLEST, "sticky": {"header": "x", "cookie": "y"}}, "sticky"),
        ({"deployment": SMALLEST, "sticky": {"json": "a..b"}}, "json:a..b"),
        ({"deployment": SMALLEST, "shadow": {"percent": 3}}, "shadow.version is missing"),
        ({"deployment": SMALLEST, "shadow": {"version": 3, "percent": 0}}, "shadow 3:0"),
        ({"deployment": SMALLEST, "overwritten": "yes"}, "wanted refuse or redeploy"),
    ],
)
def test_what_nobody_understands_is_refused(content, text):
    with pytest.raises(DeployError, match=text):
        parse_declaration(content if isinstance(content, str) else json.dumps(content))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists))
def test_any_other_json_is_refused_and_nothing_worse(value):
    with pytest.raises(DeployError):
        parse_declaration(json.dumps(value))


def test_a_config_map_declares_its_own_service_only():
    text = declaration_text(Declaration(Deployment("m", "s3://b/m", "i:1", namespace="prod")))
    assert declaration_of(config_map("m", "prod", {DECLARATION_KEY: text})) == parse_declaration(text)
    assert declaration_of(config_map("m", "prod", {})) is None
    assert declaration_of(None) is None
    with pytest.raises(DeployError, match="wanted its own service"):
        declaration_of(config_map("other", "prod", {DECLARATION_KEY: text}))


def test_a_split_says_nothing_about_the_next_version():
    with pytest.raises(DeployError, match="zeroserve split"):
        Declaration(Deployment("m", "s3://b/m", "i:1"), rollout=Split({1: 100}))
