"""What a `mix.json` may say, and that a storage's version with one is complete only when it can be."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loader.protos  # noqa: F401  # before any message of TensorFlow
from loader import completeness, dtypes
from loader.mixing.declaration import DTYPES, MAX_BYTES, parse_mix
from loader.mixing.mix_signature import mix_signature
from loader.signature import parse_signature
from loader.status import Code, ServingError
from loader.storage import open_storage
from tests.loader.mixes import CASCADE, mix_of


def changed(path: str, value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(CASCADE)
    *way, last = path.split("/")
    place = whole
    for name in way:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("steps", {}, "steps: wanted an object with 1 to 32 names"),
        ("stages", {}, "unknown field 'stages'"),
        ("inputs", None, "'inputs' is not there"),
        ("inputs/x/dtype", "resource", "inputs.x.dtype: found 'resource', wanted one of float32"),
        ("inputs/x/shape", [3], "inputs.x.shape: the first size is 3, wanted -1"),
        ("inputs/x/shape", [], "1 to 8 sizes"),
        ("inputs/a b", {}, "'a b' is no name"),
        ("inputs/small", {"dtype": "bool", "shape": [-1]}, "steps.small: an input has this name too"),
        ("steps/large/when", "max(small.scores) <", "steps.large.when: expression"),
        ("steps/large/when", "max(smal.scores) < 1", "steps.large.when: no step is named 'smal': found small, large"),
        ("steps/large/when", "y > 1", "no input is named 'y': found x"),
        ("steps/large/when", None, "there is no 'when'"),
        ("steps/large/otherwise", None, "steps.large.otherwise: no value for 'scores', which is read as large.scores"),
        ("steps/large/fallback", {"other": "1"}, "steps.large.fallback: no value for 'scores'"),
        ("steps/small/inputs/x", "large.scores", "these need each other in a circle: small, large"),
        ("steps/small/model", 7, "steps.small.model: found '7', wanted a text"),
        ("steps/small/model", None, "'model' is not there"),
        ("steps/small/url", "ftp://x", "steps.small.url: found 'ftp://x', wanted http://"),
        ("steps/small/url", "http://u:p@x", "wanted http://"),
        ("steps/small/protocol", "grpc", "there is no url"),
        ("steps/small/version", -1, "wanted a version's number"),
        ("steps/small/deadline_ms", 0, "steps.small.deadline_ms: found 0"),
        ("steps/small/run", [{"model": "m"}], "steps.small.model: stands inside of each entry of 'run'"),
        ("steps/spare", {"model": "m", "inputs": {}}, "steps.spare: nothing reads what it gives"),
        ("outputs/scores/value", 3, "outputs.scores.value: found '3', wanted an expression"),
        ("outputs/scores/value", "large", "large is a step, wanted large.OUTPUT"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(path: str, value: Any, words: str) -> None:
    with pytest.raises(ServingError) as error:
        mix_of(changed(path, value))
    assert error.value.code is Code.INVALID_ARGUMENT
    assert words in error.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["x", "small.y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["inputs", "steps", "outputs", "model", "run", "when", "value", "dtype", "shape", "x"]),
            inner,
        )
    ),
)


@given(JSON, st.sampled_from(["inputs", "inputs/x", "steps", "steps/large", "steps/small/run", "outputs/scores", "v"]))
def test_whatever_stands_in_a_file_is_a_mix_or_an_error(value: Any, path: str) -> None:
    for content in (json.dumps(value), json.dumps(changed(path, value)) if value is not None else ""):
        try:
            parse_mix(content.encode())
        except ServingError as error:
            if error.code is not Code.INVALID_ARGUMENT:
                raise


def test_the_steps_stand_in_the_order_in_which_they_can_run() -> None:
    whole = copy.deepcopy(CASCADE)
    whole["steps"] = dict(reversed(whole["steps"].items()))
    assert [*mix_of(whole).steps] == ["small", "large"]
    assert mix_of(whole).steps["large"].needs == ("small",)


def test_the_types_have_tensorflows_numbers() -> None:
    for name, number in DTYPES.items():
        assert dtypes.of_number(number).numpy_name in (name, "object" if name == "string" else name)


def test_metadata_shows_the_declared_tensors() -> None:
    signature = mix_signature(mix_of(CASCADE))
    read = parse_signature(signature.name, signature.serialized)
    assert (read.inputs, read.outputs) == (signature.inputs, signature.outputs)
    assert signature.outputs["scores"].shape == (-1, 3)
    assert signature.proto.inputs["x"].tensor_shape.dim[1].size == 3


def lacks(base: Path) -> list[str]:
    storage = open_storage(str(base))
    return completeness.missing(storage, storage.list_versions()[1])


def test_a_version_with_a_mix_is_complete_when_it_parses(tmp_path: Path) -> None:
    file = tmp_path / "1" / "mix.json"
    file.parent.mkdir()
    text = json.dumps(CASCADE)
    file.write_text(text[:100])
    assert lacks(tmp_path)[0].startswith("mix.json: it is not JSON")
    file.write_text(text.replace("small.scores", "tiny.scores"))
    assert lacks(tmp_path)[0].startswith("mix.json: steps.large.when: no step is named 'tiny'")
    file.write_bytes(b" " * (MAX_BYTES + 1))
    assert lacks(tmp_path)[0].startswith(f"mix.json: it has {MAX_BYTES + 1} bytes")
    file.write_text(text)
    assert lacks(tmp_path) == []


def test_beside_a_saved_model_the_file_is_the_models_own(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mix.json").write_text("{}")
    (tmp_path / "1" / "saved_model.pb").write_bytes((golden / "mlp" / "1" / "saved_model.pb").read_bytes())
    assert lacks(tmp_path)[0].startswith("variables/variables.index")


def test_who_only_looks_at_storage_loads_no_numpy() -> None:
    code = "import sys, loader.mixing.declaration, loader.completeness; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
