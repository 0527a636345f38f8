"""`zeroserve batch` on real files and real models: what comes out is what the model says to each row."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.cli import main
from loader import saved_model
from loader.session import SessionOptions
from loader.tfrecord import encode
from tests.functions.batch_files import FORMATS, example, results, tree, write
from tests.functions.served import GOLDEN_MODELS, server
from tests.servers.s3 import BUCKET, s3_server

assert server

HALF = str(GOLDEN_MODELS / "half_plus_two")
MLP = str(GOLDEN_MODELS / "mlp")
GOLDEN = str(GOLDEN_MODELS / "golden" / "1")
EXAMPLES = str(GOLDEN_MODELS / "golden_ex")
COUNT = 100
X = [number * 0.25 - 3 for number in range(COUNT)]
IDS = [f"r{number}" for number in range(COUNT)]


@pytest.fixture(scope="module")
def mlp() -> Iterator[Any]:
    model = saved_model.load(GOLDEN_MODELS / "mlp" / "1", SessionOptions())
    signature = model.signatures["serving_default"]

    def ask(x: np.ndarray) -> np.ndarray:
        return model.session.run({signature.inputs["x"].name: x}, [signature.outputs["y"].name])[0]

    yield ask
    model.session.close()


def run(*words: object) -> int:
    return main(["batch", *map(str, words)])


def done(folder: Path, capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """Runs a job to its end, and checks that its counts add up."""
    assert run(*words, "--output", folder, "--json", "--quiet") == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    errors = [json.loads(line) for path in sorted(folder.glob("errors-*")) for line in path.read_text().splitlines()]
    assert (found["predicted"], found["errors"]) == (len(results(folder)), len(errors))
    assert found["predicted"] + found["errors"] == found["rows"]
    assert "_SUCCESS" in tree(folder)
    assert not any(name.startswith(("_job", "_progress")) for name in tree(folder))
    return found | {"faults": errors}


def failed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a command ends with that fails."""
    assert run(*words, "--quiet") in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zeroserve batch: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("read", FORMATS)
def test_each_format_in_and_out_equals_direct_predictions(
    read: str, written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = list(range(COUNT))  # numbers: an NPY of results holds no texts
    file = write(tmp_path / f"x.{read}", {"n": ids, "x": np.array(X, np.float32)})
    keep = (
        []
        if (read, written) in {("csv", "npy"), ("jsonl", "npy"), ("tfrecord", "npy"), ("parquet", "npy")}
        else ["--keep", "n"]
    )
    words = [file, "--model", HALF, "--output-format", written, "--batch-rows", 8, "--part-rows", 24, *keep]
    found = done(tmp_path / "out", capsys, *words)
    assert (found["rows"], found["errors"], found["parts"], found["versions"]) == (COUNT, 0, 5, [1])
    rows = results(tmp_path / "out")
    assert [row["y"] for row in rows] == [x / 2 + 2 for x in X]
    if keep:
        assert [int(row["n"]) for row in rows] == ids


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "tfrecord.gz", "npy.gz"])
def test_compressed_files_are_read_and_written(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / f"x.{ending}", {"x": np.array(X, np.float32)})
    done(tmp_path / "out", capsys, file, "--model", HALF, "--gzip", "--part-rows", 24, "--batch-rows", 8)
    assert [row["y"] for row in results(tmp_path / "out")] == [x / 2 + 2 for x in X]
    assert all(name.endswith(".gz") or "npy" in ending for name in tree(tmp_path / "out") if name.startswith("part"))


@pytest.mark.parametrize("protocol", ["--grpc", "--rest", "--oip"])
def test_through_a_server_comes_what_the_model_here_says(
    server: str, protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(1).random((50, 784), np.float32).round(4)
    file = write(tmp_path / "x.jsonl", {"id": IDS[:50], "x": x})
    words = ["--keep", "id", "--batch-rows", 16, "--part-rows", 32]
    done(tmp_path / "here", capsys, file, "--model", MLP, *words)
    found = done(
        tmp_path / "there", capsys, file, "--url", server, "--name", "mlp", protocol, *words, "--concurrency", 3
    )
    assert found["versions"] == ([] if protocol == "--rest" else [1])  # TensorFlow Serving's REST does not say
    here, there = results(tmp_path / "here"), results(tmp_path / "there")
    assert [row["id"] for row in here] == [row["id"] for row in there] == IDS[:50]
    np.testing.assert_allclose([row["y"] for row in here], [row["y"] for row in there], rtol=1e-6)


def test_the_servers_url_may_name_the_model_and_its_label(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "x.csv", {"x": [1, 2]})
    url = f"http://{server}/v1/models/golden/labels/stable"
    found = done(tmp_path / "out", capsys, file, "--url", url, "--signature", "id_float32")
    assert (found["rows"], [row["y"] for row in results(tmp_path / "out")]) == (2, [1, 2])
    assert "names the model 'golden'" in failed(capsys, file, "--url", url, "--name", "other")
    assert "which model" in failed(capsys, file, "--url", server)


@pytest.mark.parametrize("ending", FORMATS)
def test_vectors_come_by_one_column_and_a_csv_file_may_have_one_for_each_number(
    ending: str, mlp: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(2).random((20, 784), np.float32)
    file = write(tmp_path / f"x.{ending}", {"x": x})
    done(tmp_path / "out", capsys, file, "--model", MLP, "--output-format", "jsonl")
    expected = mlp(x)
    np.testing.assert_allclose([row["y"] for row in results(tmp_path / "out")], expected, rtol=1e-5)
    if ending == "csv":
        wide = write(tmp_path / "wide.csv", {"label": IDS[:20], **{f"p{at}": x[:, at] for at in range(784)}})
        done(tmp_path / "wide", capsys, wide, "--model", MLP, "--keep", "label")
        rows = results(tmp_path / "wide")
        np.testing.assert_allclose([row["y"] for row in rows], expected, rtol=1e-5)
        assert [row["label"] for row in rows] == IDS[:20]


TYPED = {
    "id_bool": [True, False],
    "id_float64": [1 / 3, -1e300],
    "id_float32": [0.1, 16777217.0],
    "id_float16": [0.5, -2.0],
    "id_bfloat16": [0.5, -2.0],
    "id_int8": [-128, 127],
    "id_int16": [-32768, 32767],
    "id_int32": [-(2**31), 2**31 - 1],
    "id_int64": [-(2**63), 2**63 - 1],
    "id_uint8": [0, 255],
    "id_uint16": [0, 65535],
    "id_uint32": [0, 2**32 - 1],
    "id_uint64": [0, 2**64 - 1],
}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("signature", TYPED)
def test_every_type_keeps_its_values(
    signature: str, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / f"x.{ending}", {"x": TYPED[signature]})
    done(tmp_path / "out", capsys, file, "--model", GOLDEN, "--signature", signature)
    wanted = np.array(TYPED[signature], np.float32).tolist() if signature == "id_float32" else TYPED[signature]
    found = [row["y"] for row in results(tmp_path / "out")]
    assert (np.array(found, np.float32).tolist() if signature == "id_float32" else found) == wanted


def test_a_number_that_does_not_fit_is_a_bad_row_and_never_wrapped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "x.csv", {"x": ["1", "300", "-129", "1.5", "", "1_0", "5"]})
    found = done(tmp_path / "out", capsys, file, "--model", GOLDEN, "--signature", "id_int8", "--max-errors", 9)
    assert [row["y"] for row in results(tmp_path / "out")] == [1, 5]
    assert [one["line"] for one in found["faults"]] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "npy", "parquet"])
def test_nan_and_infinity_pass_and_the_results_stay_json(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [1.0, float("nan"), float("inf"), float("-inf")]
    file = write(tmp_path / f"x.{ending}", {"x": values})
    done(tmp_path / "out", capsys, file, "--model", HALF, "--output-format", "jsonl")
    (part,) = (tmp_path / "out").glob("part-*")
    assert part.read_text() == '{"y":2.5}\n{"y":"NaN"}\n{"y":"Infinity"}\n{"y":"-Infinity"}\n'
    again = done(tmp_path / "again", capsys, part, "--column", "x=y", "--model", HALF)
    assert again["errors"] == 0


def test_records_feed_a_model_of_examples_and_features_a_model_of_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [example({"x": [float(at)], "k": f"k{at}", "id": at}) for at in range(30)]
    file = tmp_path / "x.tfrecord"
    file.write_bytes(b"".join(map(encode, rows)))
    words = ["--signature", "predict", "--keep", "id", "--output-format", "jsonl", "--batch-rows", 7, "--part-rows", 14]
    done(tmp_path / "out", capsys, file, "--model", EXAMPLES, *words)
    found = results(tmp_path / "out")
    model = saved_model.load(GOLDEN_MODELS / "golden_ex" / "1", SessionOptions())
    signature = model.signatures["predict"]
    names = [signature.outputs[alias].name for alias in ("y", "k")]
    y, k = model.session.run({signature.inputs["examples"].name: np.array(rows, object)}, names)
    model.session.close()
    assert [row["id"] for row in found] == [*range(30)]
    assert [row["y"] for row in found] == y.tolist()
    assert [[text.encode() for text in row["k"]] for row in found] == k.tolist()
    done(tmp_path / "named", capsys, file, "--model", HALF, "--output-format", "jsonl")
    assert [row["y"] for row in results(tmp_path / "named")] == [at / 2 + 2 for at in range(30)]


def test_the_rows_that_a_model_refuses_are_found_and_the_others_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [example({"x": [float(at)]}) for at in range(40)]
    rows[3], rows[17] = b"\xff no example", b"\xff nor this"
    file = tmp_path / "x.tfrecord"
    file.write_bytes(b"".join(map(encode, rows)))
    words = ["--model", EXAMPLES, "--output-format", "jsonl", "--batch-rows", 16]
    found = done(tmp_path / "out", capsys, file, *words, "--max-errors", 2)
    assert [(one["row"], one["line"]) for one in found["faults"]] == [(4, 4), (18, 18)]
    assert all("parse" in one["reason"].lower() for one in found["faults"])
    assert found["predicted"] == 38
    line = failed(capsys, file, *words, "--max-errors", 1, "--output", tmp_path / "strict")
    assert "line 18" in line
    assert "--max-errors" in line


def test_rows_of_different_shapes_are_answered_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[float(at)] * (1 + at % 3) for at in range(50)]
    file = write(tmp_path / "x.jsonl", {"x": rows})
    done(tmp_path / "out", capsys, file, "--model", GOLDEN, "--signature", "matrix", "--batch-rows", 16)
    direct = saved_model.load(GOLDEN_MODELS / "golden" / "1", SessionOptions())
    signature = direct.signatures["matrix"]
    feed, fetch = signature.inputs["x"].name, [signature.outputs["y"].name]
    wanted = [direct.session.run({feed: np.array([row], np.float32)}, fetch)[0][0].tolist() for row in rows]
    direct.session.close()
    assert [row["y"] for row in results(tmp_path / "out")] == wanted


def test_bare_values_feed_the_one_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('1\n{"x": 2}\n\n  3.0 \n')
    done(tmp_path / "out", capsys, file, "--model", HALF)
    assert [row["y"] for row in results(tmp_path / "out")] == [2.5, 3.0, 3.5]


HOSTILE = [
    (b'{"x": "text"}', "wanted float"),
    (b'{"y": 1}', "no column 'x'"),
    (b'{"x": null}', "no value"),
    (b'{"x": [1, 2]}', "found shape"),
    (b'{"x": [[1], [2, 3]]}', "inhomogeneous"),
    (b'{"x": {"a": 1}}', "found"),
    (b'{"x": 1', "not JSON"),
    (b'{"x": "\xff"}', "not JSON"),
    (b'{"x": ' + b"[" * 100_000, "not JSON"),
    (b'{"x": ' + b"9" * 5000 + b"}", "not JSON"),
    (b"\x00\x01", "not JSON"),
    (b'{"x": "' + b"a" * 3000 + b'"}', "more than 2000 bytes"),
]


def test_hostile_lines_are_bad_rows_with_their_places_and_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.jsonl"
    limit = 200_000
    lines = [line for bad, _ in HOSTILE[:-1] for line in (b'{"x": 1}', bad)]
    file.write_bytes(b"\n".join(lines))
    words = [file, "--model", HALF, "--max-errors", 100, "--max-row-bytes", limit]
    found = done(tmp_path / "out", capsys, *words)
    assert found["predicted"] == len(HOSTILE) - 1
    assert [one["line"] for one in found["faults"]] == [2 * at + 2 for at in range(len(HOSTILE) - 1)]
    for one, (_, reason) in zip(found["faults"], HOSTILE, strict=False):
        assert reason in one["reason"], one
        assert len(one["reason"]) < 500
    file.write_bytes(b'{"x": 1}\n' + HOSTILE[-1][0] + b'\n{"x": 2}\n')
    found = done(tmp_path / "long", capsys, file, "--model", HALF, "--max-errors", 1, "--max-row-bytes", 2000)
    assert [row["y"] for row in results(tmp_path / "long")] == [2.5, 3.0]
    assert HOSTILE[-1][1] in found["faults"][0]["reason"]


def test_a_quote_that_is_not_closed_costs_its_line_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.csv"
    file.write_text('id,x\na,1\nb,"2\nc,3\nd,4,5\n"e\n1",6\nf,"7"x\ng,8\n')
    found = done(tmp_path / "out", capsys, file, "--model", HALF, "--keep", "id", "--max-errors", 9)
    assert [(row["id"], row["y"]) for row in results(tmp_path / "out")] == [
        ("a", 2.5),
        ("c", 3.5),
        ("e\n1", 5.0),
        ("g", 6.0),
    ]
    assert [(one["line"], one["reason"][:8]) for one in found["faults"]] == [
        (3, "not CSV:"),
        (5, "3 cells,"),
        (8, "not CSV:"),
    ]


def test_texts_keep_their_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b'\xef\xbb\xbfimage_bytes,id\r\n\xff\xfe,\xff\r\n"a\nb",gr\xc3\xbc\xc3\x9fe\r\n')
    words = ["--signature", "bytes_in", "--model", GOLDEN, "--keep", "id", "--output-format", "jsonl"]
    done(tmp_path / "out", capsys, file, *words)
    assert results(tmp_path / "out") == [{"id": {"b64": "/w=="}, "len": 2}, {"id": "grüße", "len": 3}]


@pytest.mark.parametrize("written", ["csv", "jsonl", "tfrecord", "parquet"])
def test_whatever_json_holds_can_be_kept(written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.jsonl"
    odd = [None, {"a": [1, {"b": None}]}, [[1], [2, 3]], [1, "a"], 2**70, 1.5, True, 'ü\n"', [], ""]
    file.write_text("".join(json.dumps({"x": 1, "k": value}) + "\n" for value in odd))
    done(tmp_path / "out", capsys, file, "--model", HALF, "--keep", "k", "--output-format", written)
    if written == "jsonl":
        assert [row["k"] for row in results(tmp_path / "out")] == odd


def test_half_of_a_surrogate_pair_is_kept_as_bytes_and_feeds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"image_bytes": "a", "id": "\\ud800"}\n{"image_bytes": "\\udfff", "id": 1}\n')
    words = ["--signature", "bytes_in", "--model", GOLDEN, "--keep", "id", "--max-errors", 1]
    found = done(tmp_path / "out", capsys, file, *words)
    assert results(tmp_path / "out") == [{"id": {"b64": "7aCA"}, "len": 1}]
    assert "surrogate" in found["faults"][0]["reason"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O',}", "not an array"),
        ("x.npy", b"no array", "not an array"),
        ("x.npz", b"PK no archive", "not a .npz file"),
        ("x.parquet", b"PAR1 no table PAR1", "not a Parquet file"),
        ("x.parquet", b"", "not a Parquet file"),
        ("x.tfrecord", b"\x00" * 40, "fails its checksum"),
        ("x.tfrecord", encode(b"abc")[:-2], "truncated record"),
        ("x.jsonl.gz", gzip.compress(b'{"x": 1}\n' * 99)[:-12], "middle of a gzip stream"),
        ("x.jsonl.gz", b"no gzip", "damaged gzip"),
        ("x.csv", b"", "no columns"),
        ("x.csv", b"x,x\n1,2\n", "each column once"),
        ("x.csv", b"a,b\n1,2\n", "no column 'x'"),
        ("x.parquet.gz", b"", "cannot be read through gzip"),
        ("x.bin", b"", "--format"),
    ],
)
def test_files_that_are_not_what_they_say_end_with_one_line(
    name: str, content: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason in failed(capsys, tmp_path / name, "--model", HALF)


def test_arrays_that_would_run_code_or_have_no_rows_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    assert "Python objects" in failed(capsys, tmp_path / "objects.npy", "--model", HALF)
    np.save(tmp_path / "one.npy", np.float32(1))
    assert "no rows" in failed(capsys, tmp_path / "one.npy", "--model", HALF)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((3, 784), np.float32)))
    assert "ascontiguousarray" in failed(capsys, tmp_path / "fortran.npy", "--model", MLP)
    np.save(tmp_path / "empty.npy", np.ones((10**15, 0), np.float32))
    assert "a row has 0 bytes" in failed(capsys, tmp_path / "empty.npy", "--model", MLP)
    (tmp_path / "short.npy").write_bytes((tmp_path / "fortran.npy").read_bytes()[:200].replace(b"True", b"False"))
    assert "ends before" in failed(capsys, tmp_path / "short.npy", "--model", MLP)


def test_a_record_with_a_broken_sum_is_a_bad_row_and_the_next_one_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = encode(example({"x": [1.0]}))
    broken = bytearray(good)
    broken[14] ^= 1
    file = tmp_path / "x.tfrecord"
    file.write_bytes(good + broken + good + encode(b"x" * 5000) + good)
    words = ["--output-format", "jsonl", "--max-errors", 3, "--max-row-bytes", 1000]
    found = done(tmp_path / "out", capsys, file, "--model", HALF, *words)
    assert [one["row"] for one in found["faults"]] == [2, 4]
    assert found["predicted"] == 3


def test_npz_files_feed_inputs_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.arange(60, dtype=np.float32)
    np.savez_compressed(tmp_path / "x.npz", x=x, id=np.arange(60))
    done(tmp_path / "out", capsys, tmp_path / "x.npz", "--model", HALF, "--keep", "id", "--batch-rows", 7)
    rows = results(tmp_path / "out")
    assert [(row["id"], row["y"]) for row in rows] == [(at, at / 2 + 2) for at in range(60)]
    np.savez(tmp_path / "odd.npz", x=x, id=np.arange(61))
    assert "different numbers of rows" in failed(capsys, tmp_path / "odd.npz", "--model", HALF)


def test_an_output_without_rows_is_named_and_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "x.csv", {"x": X})
    words = [file, "--model", GOLDEN, "--signature", "mixed_out"]
    assert "output 'mean'" in failed(capsys, *words, "--output", tmp_path / "a")
    done(tmp_path / "out", capsys, *words, "--select", "y=score")
    assert results(tmp_path / "out")[0] == {"score": X[0] + 1}
    assert "no output is named 'z'" in failed(capsys, *words, "--select", "z", "--output", tmp_path / "b")


@pytest.mark.parametrize("what", ["same", "folder", "below", "link"])
def test_an_output_that_is_an_input_is_refused(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    file = write(folder / "x.csv", {"x": X})
    before = tree(folder)
    (tmp_path / "link").symlink_to(folder)
    output, source = {
        "same": (file, file),
        "folder": (folder, file),
        "below": (folder / "out", folder),
        "link": (tmp_path / "link", file),
    }[what]
    line = failed(capsys, source, "--model", HALF, "--output", output)
    assert "holds the input" in line or "lies in the input" in line
    assert tree(folder) == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "x.csv", {"x": X})
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    assert "it holds 'precious'" in failed(capsys, file, "--model", HALF, "--output", out)
    done(out, capsys, file, "--model", HALF, "--restart")
    assert (out / "precious").read_text() == "mine"


def test_another_job_is_refused_and_the_same_one_is_done_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write(tmp_path / "x.csv", {"id": IDS, "x": X}), tmp_path / "out"
    done(out, capsys, file, "--model", HALF)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert done(out, capsys, file, "--model", HALF)["resumed_rows"] == COUNT
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "keep differ" in failed(capsys, file, "--model", HALF, "--keep", "id", "--output", out)
    done(out, capsys, file, "--model", HALF, "--keep", "id", "--restart")
    assert results(out)[0] == {"id": "r0", "y": X[0] / 2 + 2}
    write(file, {"id": IDS[:1], "x": X[:1]})
    assert "inputs differ" in failed(capsys, file, "--model", HALF, "--keep", "id", "--output", out)


def test_files_of_a_folder_and_of_a_pattern_come_in_order_and_results_lie_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    for at, name in enumerate(("a.csv", "b/c.csv", "d.csv")):
        write(folder / name, {"x": [at]})
    (folder / "_hidden.csv").write_text("no data")
    (folder / "e.txt").write_text("no data")
    assert run(folder / "*.csv", "--model", HALF, "--quiet") == 0
    assert [row["y"] for row in results(tmp_path / "in.predictions")] == [2.0, 3.0]
    capsys.readouterr()
    (folder / "e.txt").unlink()
    done(tmp_path / "out", capsys, folder, "--model", HALF)
    assert [row["y"] for row in results(tmp_path / "out")] == [2.0, 2.5, 3.0]
    assert "no file at" in failed(capsys, folder / "*.parquet", "--model", HALF)
    assert "named twice" in failed(
        capsys, folder / "a.csv", folder / "*.csv", "--model", HALF, "--output", tmp_path / "x"
    )


def test_a_limit_counts_over_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path / f"{name}.csv", {"x": X}) for name in "abc"]
    words = [*files, "--model", HALF, "--limit", 130, "--batch-rows", 16, "--part-rows", 32]
    found = done(tmp_path / "out", capsys, *words)
    assert found["rows"] == 130
    assert [row["y"] for row in results(tmp_path / "out")] == [x / 2 + 2 for x in (X + X)[:130]]


def test_an_empty_file_gives_no_parts_and_a_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"")
    found = done(tmp_path / "out", capsys, tmp_path / "x.jsonl", "--model", HALF)
    assert (found["rows"], found["parts"]) == (0, 0)


def test_a_plan_says_what_would_be_done_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "x.csv", {"x": X})
    assert run(file, "--model", HALF, "--dry-run") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["feeds"], plan["output_format"], plan["done"]) == ({"x": ["x"]}, "csv", False)
    assert plan["output"] == f"{file}.predictions"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model", HALF, "--url", "localhost:1"], "one of them"),
        ([], "one of them"),
        (["--model", HALF, "--batch-rows", "0"], "--batch-rows"),
        (["--model", HALF, "--part-rows", "1"], "--part-rows"),
        (["--model", HALF, "--limit", "-1"], "--limit"),
        (["--model", HALF, "--format", "xml"], "wanted one of"),
        (["--model", HALF, "--column", "x"], "INPUT=COLUMN"),
        (["--model", HALF, "--column", "z=a"], "no input is named"),
        (["--model", HALF, "--keep", "a,a"], "two columns"),
        (["--model", HALF, "--keep", "x", "--select", "y=x"], "two columns"),
        (["--model", HALF, "--signature", "other"], "no signature"),
        (["--model", HALF, "--version", "9"], "no version 9"),
        (["--model", "/nowhere"], "found none"),
        (["--model", HALF, "--concurrency", "-1"], "--concurrency"),
        (["--url", "localhost:1", "--name", "m", "--timeout", "0.2"], "localhost:1"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "x.csv", {"a": X, "x": X})
    assert reason in failed(capsys, file, *words)


def test_inputs_and_results_may_lie_in_s3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path) as s3:
        for name, value in s3.environ.items():
            monkeypatch.setenv(name, value)
        s3.put_tree(GOLDEN_MODELS / "half_plus_two", "half")
        for ending in FORMATS:
            s3.put(f"in/x.{ending}", write(tmp_path / f"x.{ending}", {"x": np.array(X, np.float32)}).read_bytes())
            words = [f"s3://{BUCKET}/in/x.{ending}", "--model", f"s3://{BUCKET}/half", "--output-format", "jsonl"]
            assert run(*words, "--part-rows", 64, "--batch-rows", 16, "--json") == 0
            assert json.loads(capsys.readouterr().out)["rows"] == COUNT
            listed = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=f"in/x.{ending}.predictions/")["Contents"]
            names = [one["Key"].rpartition("/")[2] for one in listed]
            assert names == ["_SUCCESS", "part-00000-of-00001-00000.jsonl", "part-00000-of-00001-00001.jsonl"]
            lines = b"".join(
                s3.client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in listed[1:]
            ).splitlines()
            assert [json.loads(line)["y"] for line in lines] == [x / 2 + 2 for x in X]
