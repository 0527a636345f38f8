"""A TensorFlow Serving config says the same as JSON as it does in its own text form, and becomes declarations."""

import json

import pytest
from google.protobuf import json_format, text_format

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest  # noqa: E402

from events.config_event import ModelWish, model_wishes  # noqa: E402
from events.error import MalformedError  # noqa: E402
from events.model_configs import declarations  # noqa: E402
from events.version_policy import parse_version_policy, version_policy_text  # noqa: E402
from knative.declaration import Declaration  # noqa: E402
from knative.error import DeployError  # noqa: E402
from knative.service import Deployment  # noqa: E402
from loader.policy import All, Latest, Specific  # noqa: E402

TEXT = """config { model_config_list {
  config { name: 'a' base_path: 's3://b/a/' model_platform: 'tensorflow' }
  config { name: 'B_c' base_path: 's3://b/c' model_platform: 'tensorflow'
           model_version_policy { specific { versions: 3 versions: 4 } }
           version_labels { key: 'stable' value: 3 } }
  config { name: 'd' base_path: 'gs://b/d' model_version_policy { latest { num_versions: 2 } } }
  config { name: 'e' base_path: '/e' model_version_policy { all {} } }
} }"""
WISHES = (
    ModelWish("a", "s3://b/a", Latest(1), {}),
    ModelWish("B_c", "s3://b/c", Specific(frozenset({3, 4})), {"stable": 3}),
    ModelWish("d", "gs://b/d", Latest(2), {}),
    ModelWish("e", "/e", All(), {}),
)


@pytest.mark.parametrize("proto_names", [True, False])
def test_a_reload_request_as_json_says_what_it_says(proto_names):
    request = text_format.Parse(TEXT, ReloadConfigRequest())
    as_json = json_format.MessageToDict(request, preserving_proto_field_name=proto_names)
    assert model_wishes(as_json) == WISHES
    assert model_wishes(as_json["config"]) == WISHES
    assert model_wishes(json.dumps(as_json)) == WISHES


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"config": 3},
        {"config": {"model_config_list": {"config": [{"name": "a"}]}}},
        {"config": {"model_config_list": {"config": [{"name": "a", "base_path": "x"}] * 2}}},
        {"config": {"model_config_list": {"config": [{"name": "a", "base_path": "x", "version_labels": {"s": "x"}}]}}},
        {"config": {"model_config_list": {"config": [{}] * 1001}}},
    ],
)
def test_what_is_no_config_is_refused(data):
    with pytest.raises(MalformedError):
        model_wishes(data)


def declared(name, **more):
    return Declaration(Deployment(name, f"s3://b/{name}", "image:1", model=more.pop("model", ""), cpu="2"), **more)


def test_a_declared_model_changes_what_the_config_says_and_nothing_else():
    old = declared("a", rollout=Declaration(Deployment("x", "u", "i")).rollout, gates={"k": 1})
    (new,) = declarations([ModelWish("a", "gs://new/a", Latest(2), {"stable": 1})], [old], "")
    assert (new.deployment.url, new.versions, new.labels) == ("gs://new/a", "latest:2", {"stable": 1})
    assert (new.deployment.image, new.deployment.cpu, new.gates) == ("image:1", "2", {"k": 1})
    assert declarations([ModelWish("a", "s3://b/a", Latest(), {})], [declared("a")], "") == []


def test_a_new_model_is_deployed_like_the_one_whose_pod_was_asked():
    (new,) = declarations([WISHES[1]], [declared("a")], "a")
    assert (new.deployment.name, new.deployment.model, new.deployment.cpu) == ("b-c", "B_c", "2")
    assert new.versions == "specific:3,4"
    assert declarations([WISHES[1]], [new], "") == []


@pytest.mark.parametrize(
    ("wish", "like", "words"),
    [
        (WISHES[1], "", "not declared"),
        (WISHES[1], "other", "not declared"),
        (ModelWish("b.c", "s3://b/c", Latest(), {}), "a", "cannot name a service"),
        (ModelWish("x", "s3://b/c", Latest(), {}), "a", "serves another model"),
        (ModelWish("m", "s3://b/c", Latest(), {"not a label": 1}), "a", "cannot be a tag"),
    ],
)
def test_a_model_that_cannot_be_declared_changes_nothing(wish, like, words):
    with pytest.raises(MalformedError, match=words):
        declarations([wish], [declared("a"), declared("x", model="y")], like)


@pytest.mark.parametrize("text", ["latest:1", "latest:12", "all", "specific:1,4"])
def test_the_words_of_a_version_policy_say_the_policy(text):
    assert version_policy_text(parse_version_policy(text)) == text


@pytest.mark.parametrize(
    "text", ["", "latest:0", "latest:-1", "latest:\u0663", "specific:", "specific:1,x", "all:1", "x"]
)
def test_other_words_are_refused(text):
    with pytest.raises(DeployError, match="wanted latest:N"):
        parse_version_policy(text)
