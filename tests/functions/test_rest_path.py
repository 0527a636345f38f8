"""What REST paths ask for."""

import pytest

from functions.rest.path import MAX_PATHS, Paths, Target, parse_inspection, parse_prediction
from loader.servable import ModelSpec
from loader.status import Code, ServingError


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/models/m:predict", Target("predict", ModelSpec("m"))),
        ("/V1/Models/m:classify", Target("classify", ModelSpec("m"))),
        ("/v1/models/m/versions/007:regress", Target("regress", ModelSpec("m", 7))),
        ("/v1/models/m/labels/a%20b:predict", Target("predict", ModelSpec("m", None, "a b"))),
        ("/v1/models/a%2Fb:predict", Target("predict", ModelSpec("a/b"))),
        ("/v1/models/m:PREDICT", None),
        ("/v1/models/m:predict/", None),
        ("/v1/models/m/versions/1/labels/a:predict", None),
        ("/v1/models/m/versions/x:predict", None),
        ("/v1/models/m/versions/\u0661:predict", None),
        ("/v1/models/:predict", None),
        ("/v1/models/m", None),
    ],
)
def test_a_post_names_model_version_or_label_and_verb(path: str, target: Target | None) -> None:
    assert parse_prediction(path) == target


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/models", Target("models", ModelSpec(""))),
        ("/v1/models/m", Target("status", ModelSpec("m"))),
        ("/v1/models/m/versions/1", Target("status", ModelSpec("m", 1))),
        ("/v1/models/m/labels/a", Target("status", ModelSpec("m", None, "a"))),
        ("/v1/models/m/versions/1/metadata", Target("metadata", ModelSpec("m", 1))),
        ("/v1/models/metadata", Target("status", ModelSpec("metadata"))),
        ("/v1/models/m/METADATA", None),
        ("/v1/models/", None),
        ("/v1/models/m/foo", None),
        ("/v1/foo", None),
    ],
)
def test_a_get_asks_for_status_or_metadata(path: str, target: Target | None) -> None:
    assert parse_inspection(path) == target


@pytest.mark.parametrize("version", ["9223372036854775808", "18446744073709551615", "9" * 5000])
def test_a_version_over_64_bits_is_refused_by_name(version: str) -> None:
    with pytest.raises(ServingError) as caught:
        parse_prediction(f"/v1/models/m/versions/{version}:predict")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == f"Failed to convert version: {version} to numeric."


def test_a_version_or_label_without_a_model_is_refused() -> None:
    with pytest.raises(ServingError, match=r"Missing model name in request\."):
        parse_inspection("/v1/models/versions/1")


def test_no_more_than_a_fixed_number_of_paths_is_remembered() -> None:
    paths = Paths()
    for number in range(2 * MAX_PATHS + 10):
        paths.prediction(f"/v1/models/m{number}:predict")
    assert paths.remembered <= MAX_PATHS
    assert paths.prediction("/v1/models/m1:predict") == Target("predict", ModelSpec("m1"))
