"""What the gateway's builders make, and what they refuse; Envoy itself says in tests/functions whether it works."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative.error import DeployError
from knative.gateway.api_keys import keys_text, new_key, parse_keys, with_key, without_client
from knative.gateway.entry import METHODS, script
from knative.gateway.envoy import configuration
from knative.gateway.manifests import CONFIG_FILE, Installation, manifests, secret
from knative.gateway.process import Process
from knative.gateway.settings import Gateway, Jwt, Limit, parse_limit, split_address

KEY = "k" * 20
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,20}", fullmatch=True)
keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=64)


@given(st.dictionaries(keys, names, max_size=8))
def test_keys_are_read_back_as_they_were_written(found: dict[str, str]):
    assert parse_keys(keys_text(found)) == found


def test_a_client_can_have_two_keys_and_nobody_another_ones():
    found = with_key({KEY: "alice"}, "alice", "l" * 20)
    assert found == {KEY: "alice", "l" * 20: "alice"}
    assert without_client(found, "alice") == {}
    with pytest.raises(DeployError, match="has that key"):
        with_key(found, "bob", KEY)
    with pytest.raises(DeployError, match="has no key"):
        without_client(found, "bob")
    assert len({new_key() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("key", "client"), [("short", "a"), ("with a space in it, long", "a"), (KEY, "a b"), (KEY, ""), (KEY, "a\r\nb: c")]
)
def test_keys_and_clients_that_headers_cannot_have_are_refused(key: str, client: str):
    with pytest.raises(DeployError):
        keys_text({key: client})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"resources": []}', '{"resources": [1]}'])
def test_a_file_that_is_not_ours_is_no_file_of_keys(text: str):
    with pytest.raises(DeployError, match="not what zeroserve gateway writes"):
        parse_keys(text)


def test_limits_are_read():
    assert parse_limit("10/s") == Limit("", 10, 1)
    assert parse_limit("alice=5000/d") == Limit("alice", 5000, 86400)
    for text in ("", "10", "0/s", "10/y", "=5/s", "a b=5/s", "-1/s", "99999999999/s", "5000000000/s"):
        with pytest.raises(DeployError, match="limit"):
            parse_limit(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": ("a.b",)},
        {"models": ("zeroserve-deploy",)},
        {"backends": {"m": "nowhere"}},
        {"backends": {'m"': "a:1"}},
        {"backends": {"m": 'a"]:1'}},
        {"rate_limit_service": "limits:0"},
        {"cors_origins": ("javascript:",)},
        {"cors_origins": ("https://a.*)|(.*",)},
        {"cluster_domain": 'x" }'},
        {"namespace": "A"},
        {"max_body_bytes": 0},
        {"timeout_seconds": 0},
        {"retries": 11},
        {"trusted_hops": -1},
        {"model_limits": (Limit("a.b", 1, 1),)},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]):
    with pytest.raises(DeployError):
        Gateway(**wrong)  # type: ignore[arg-type]


def test_a_token_needs_an_issuer_with_keys():
    for wrong in (
        lambda: Jwt(""),
        lambda: Jwt("i"),
        lambda: Jwt("i", keys_url="https://a", keys="{}"),
        lambda: Jwt("i", keys_url="file:///etc/passwd"),
        lambda: Jwt("i", keys_url="https://user:word@a"),
    ):
        with pytest.raises(DeployError, match="JWT"):
            wrong()
    for wrong_address in ("a", "a:", "a:0", "a:70000", "a b:1", ":1"):
        with pytest.raises(DeployError, match="address"):
            split_address(wrong_address)


def test_what_is_refused_is_refused_before_anything_goes_to_a_model():
    limits = (parse_limit("1/s"),)
    wanted = Gateway(
        client_limits=limits, model_limits=limits, jwt=Jwt("i", keys="{}"), rate_limit_service="limits:8081"
    )
    listener = configuration(wanted, Process())["static_resources"]["listeners"][0]
    filters = [one["name"] for one in listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]]
    assert filters == [
        "health",
        "cors",
        "zeroserve.retry_after",
        "zeroserve.tokens",
        "zeroserve.keys",
        "prepared",
        "zeroserve.client_limits",
        "buffer",
        "entry",
        "zeroserve.model_limits",
        "zeroserve.shared_limits",
        "models",
        "router",
    ]


def test_the_same_wish_is_the_same_text_and_has_no_key():
    wanted = Gateway(backends={"b": "h:1", "a": "h:2"}, models=("b", "a"))
    assert json.dumps(configuration(wanted, Process())) == json.dumps(configuration(wanted, Process()))
    assert "HandleReloadConfig" not in script(wanted)
    assert all(re.fullmatch(r"/[\w.]+/\w+", method) for method in METHODS)


def test_a_changed_configuration_is_a_new_pod_and_changed_keys_are_not():
    def template(wanted: Gateway) -> dict[str, object]:
        found = {one["kind"]: one for one in manifests(wanted, Installation())}
        json.loads(found["ConfigMap"]["data"][CONFIG_FILE])
        spec: dict[str, object] = found["Deployment"]["spec"]["template"]
        return spec

    assert template(Gateway()) == template(Gateway())
    assert template(Gateway()) != template(Gateway(retries=0))
    assert KEY not in json.dumps(manifests(Gateway(), Installation()))
    assert KEY in json.dumps(secret("default", keys_text({KEY: "a"})))


def test_pods_may_do_nothing_that_they_need_not():
    found = {one["kind"]: one for one in manifests(Gateway(), Installation(replicas=2))}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "nvidia.com/gpu" not in json.dumps(found)
    for wrong in ({"image": ""}, {"replicas": 0}, {"service_type": "x"}, {"memory_mib": 1}):
        with pytest.raises(DeployError):
            Installation(**wrong)  # type: ignore[arg-type]
