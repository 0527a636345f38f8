"""The words of `zeroserve deploy`: what is not said stays as it was declared."""

import pytest

from functions.commands.deploy_options import declared, deploy_parser
from functions.commands.deploy_settings import batching_environment, checked_environment, pod_cpus, with_concurrency
from knative.declaration import Declaration, Shadow, Sticky
from knative.error import DeployError
from knative.policy import Canary, Keep
from knative.service import Deployment
from loader.batching_parameters import BatchingParameters
from tests.loader.signing import Signer

IMAGE = ["--image", "i:1"]


def read(*words: str, before: Declaration | None = None) -> Declaration:
    return declared(deploy_parser().parse_args(words), "prod", before)


def test_a_command_line_that_says_all_is_a_declaration():
    found = read(
        "m", "s3://b/m/", *IMAGE, "--gpu", "1", "--policy", "latest:2", "--rollout", "canary=10", "--label", "a=1"
    )
    assert found.deployment == Deployment("m", "s3://b/m", "i:1", namespace="prod", gpus=1, progress_seconds=600)
    assert (found.versions, found.rollout, found.labels) == ("latest:2", Canary(10), {"a": 1})


def test_what_is_not_said_stays_and_what_is_said_is_added():
    before = read(
        "m", "s3://b/m", *IMAGE, "--memory", "1Gi", "--env", "A=1", "--label", "stable=1", "--sticky", "cookie:u"
    )
    found = read("m", "--image", "i:2", "--env", "B=2", "--label", "canary=2", before=before)
    assert (found.deployment.image, found.deployment.memory) == ("i:2", "1Gi")
    assert found.deployment.environment == {"A": "1", "B": "2"}
    assert found.labels == {"stable": 1, "canary": 2}
    assert found.sticky == Sticky("cookie", "u")
    assert read("m", before=found) == found


def test_an_empty_value_or_none_takes_away():
    before = read(
        "m",
        "s3://b/m",
        *IMAGE,
        "--env",
        "A=1",
        "--label",
        "stable=1",
        "--sticky",
        "cookie:u",
        "--shadow",
        "3:10",
        "--env-from-secret",
        "s3",
        "--key-secret",
        "gcs",
        "--gate",
        "replay.rtol=0.1",
    )
    assert (before.shadow, before.gates) == (Shadow(3, 10.0), {"replay": {"rtol": 0.1}})
    found = read(
        "m",
        "--env",
        "A=",
        "--label",
        "stable=",
        "--sticky",
        "none",
        "--shadow",
        "none",
        "--env-from-secret",
        "none",
        "--key-secret",
        "none",
        "--gate",
        "replay=",
        before=before,
    )
    assert found == read("m", "s3://b/m", *IMAGE)


def test_signing_keys_are_read_from_files_added_up_and_taken_away(tmp_path):
    one, other = Signer(tmp_path, "one"), Signer(tmp_path, "other")
    keys = ["--signing-key", str(one.public_file), "--signing-key", str(other.public_file)]
    before = read("m", "s3://b/m", *IMAGE, *keys)
    assert before.deployment.signing_keys == one.public + other.public
    assert read("m", "--cpu", "1", before=before).deployment.signing_keys == one.public + other.public
    assert read("m", "--signing-key", "none", before=before) == read("m", "s3://b/m", *IMAGE)
    with pytest.raises(DeployError, match="--signing-key: found 0 public keys"):
        read("m", "s3://b/m", *IMAGE, "--signing-key", str(one.file))
    with pytest.raises(DeployError, match="cannot be read"):
        read("m", "s3://b/m", *IMAGE, "--signing-key", str(tmp_path / "nothing"))


def test_fresh_forgets_what_was_declared():
    before = read("m", "s3://b/m", *IMAGE, "--memory", "1Gi", "--label", "stable=1")
    assert read("m", "s3://b/m", *IMAGE, "--fresh", before=before) == read("m", "s3://b/m", *IMAGE)
    with pytest.raises(DeployError, match="URL is missing"):
        read("m", "--fresh", *IMAGE, before=before)


def test_a_split_is_done_and_not_declared():
    assert read("m", "s3://b/m", *IMAGE, "--rollout", "split=1:50,2:50").rollout == Keep()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--label", "stable"], "wanted NAME=VALUE"),
        (["--label", "stable=x"], "stable=3"),
        (["--env", "=1"], "wanted NAME=VALUE"),
        (["--shadow", "x"], "wanted VERSION"),
        (["--sticky", "user"], "header:x-user-id"),
        (["--gate", "a=1", "--gate", "a.b=1"], "is a value already"),
    ],
)
def test_words_that_make_no_sense_are_refused(words, text):
    with pytest.raises(DeployError, match=text):
        read("m", "s3://b/m", *IMAGE, *words)


def test_batching_parameters_become_variables_of_the_pod():
    text = "max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 32 num_batch_threads { value: 2 }"
    assert batching_environment(text) == {
        "SERVING_ENABLE_BATCHING": "true",
        "SERVING_MAX_BATCH_SIZE": "32",
        "SERVING_NUM_BATCH_THREADS": "2",
        "SERVING_ALLOWED_BATCH_SIZES": "8,32",
    }


def test_concurrency_follows_from_batching_by_its_own_rule():
    batching = {"SERVING_ENABLE_BATCHING": "true", "SERVING_MAX_BATCH_SIZE": "32"}
    found = with_concurrency(Deployment("m", "u", "i", environment=batching), 4)
    assert found.concurrency == BatchingParameters(max_batch_size=32, num_batch_threads=4).concurrency
    assert with_concurrency(Deployment("m", "u", "i"), 4).concurrency == 0
    usual = {"SERVING_ENABLE_BATCHING": "true"}  # 1000 rows in a batch, more than Knative's limit
    assert with_concurrency(Deployment("m", "u", "i", environment=usual), 4).concurrency == 0
    huge = batching | {"SERVING_MAX_BATCH_SIZE": "9999"}
    assert with_concurrency(Deployment("m", "u", "i", environment=huge), 4).concurrency == 0


@pytest.mark.parametrize(("quantity", "cpus"), [("", 1), ("500m", 1), ("2", 2), ("2500m", 2), ("3.9", 3)])
def test_whole_cpus_of_a_quantity(quantity, cpus):
    assert pod_cpus(quantity) == cpus


def test_a_variable_that_no_pod_knows_is_refused_before_there_is_a_pod():
    checked_environment({"AWS_REGION": "x", "SERVING_ENABLE_BATCHING": "true"})
    with pytest.raises(DeployError, match="SERVING_MAX_BATCH_SIZE"):
        checked_environment({"SERVING_MAX_BATHC_SIZE": "1"})
