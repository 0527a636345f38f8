"""Files of every format for batch jobs, written and read by other code than the jobs' own."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

import loader.protos
from loader.tfrecord import encode, records

assert loader.protos
from tensorflow.core.example.example_pb2 import Example  # noqa: E402

FORMATS = ["csv", "jsonl", "tfrecord", "parquet", "npy"]


def write(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """A file whose format its name says."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    names, rows = list(columns), list(zip(*columns.values(), strict=True))
    if kind == "csv":
        text = io.StringIO(newline="")
        csv.writer(text).writerows([names, *[[_cell(value) for value in row] for row in rows]])
        data = text.getvalue().encode()
    elif kind == "jsonl":
        data = "".join(json.dumps(dict(zip(names, map(_plain, row), strict=True))) + "\n" for row in rows).encode()
    elif kind == "tfrecord":
        data = b"".join(encode(example(dict(zip(names, row, strict=True)))) for row in rows)
    elif kind == "parquet":
        listed = {name: [_plain(value) for value in values] for name, values in columns.items()}
        large = {name: pa.uint64() if 2**64 - 1 in v else None for name, v in listed.items()}
        table = pa.table({name: pa.array(values, large[name]) for name, values in listed.items()})
        pa.parquet.write_table(table, path, row_group_size=7)
        return path
    else:
        out = io.BytesIO()
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        if len(arrays) == 1:
            np.save(out, next(iter(arrays.values())))
        else:
            together = np.empty(len(rows), [(name, one.dtype, one.shape[1:]) for name, one in arrays.items()])
            for name, one in arrays.items():
                together[name] = one
            np.save(out, together)
        data = out.getvalue()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def results(folder: Path) -> list[dict[str, Any]]:
    """All rows of the parts of a folder, in order; numbers as numbers."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("part-*")):
        data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        kind = path.name.removesuffix(".gz").rpartition(".")[2]
        if kind == "csv":
            reader = csv.DictReader(io.StringIO(data.decode(), newline=""))
            found += [{name: _parsed(value) for name, value in row.items()} for row in reader]
        elif kind == "jsonl":
            found += [json.loads(line) for line in data.splitlines()]
        elif kind == "tfrecord":
            found += [_of_example(one) for one in records(io.BytesIO(data))]
        elif kind == "parquet":
            found += pa.parquet.read_table(path).to_pylist()
        else:
            array = np.load(io.BytesIO(data), allow_pickle=False)
            names = array.dtype.names
            found += [{name: row[name].tolist() for name in names} if names else {"y": row.tolist()} for row in array]
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def example(row: Mapping[str, Any]) -> bytes:
    """A serialised tf.Example."""
    found = Example()
    for name, value in row.items():
        feature = found.features.feature[name]
        values = np.asarray(value).ravel().tolist()
        if isinstance(values[0], str | bytes):
            feature.bytes_list.value.extend(each.encode() if isinstance(each, str) else each for each in values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return bytes(found.SerializeToString())


def _of_example(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, feature in Example.FromString(data).features.feature.items():
        values = list(getattr(feature, feature.WhichOneof("kind")).value)
        listed = [value.decode() if isinstance(value, bytes) else value for value in values]
        found[name] = listed[0] if len(listed) == 1 else listed
    return found


def _cell(value: Any) -> Any:
    value = _plain(value)
    return json.dumps(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
