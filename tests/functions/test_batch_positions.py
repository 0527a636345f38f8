"""Reading goes on exactly where it ended, from any place, in every format: what parts and resuming stand on."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.batch_jobs.formats import format_of, open_reader
from functions.batch_jobs.inputs import find_inputs
from functions.batch_jobs.rows import MISSING, VALUE, Fault, Options, Position
from tests.functions.batch_files import FORMATS, write

LENGTHS = st.integers(1, 9)
JSON_LINES = st.lists(
    st.one_of(
        st.integers(-5, 5).map(lambda x: json.dumps({"x": x}).encode()),
        st.just(b""),
        st.just(b"  \r"),
        st.just(b'{"x": "\xff'),
        st.text("ab\u2028\x0bü", max_size=5).map(lambda text: json.dumps({"x": text}, ensure_ascii=False).encode()),
        st.integers(50, 90).map(lambda size: b"l" * size),
    ),
    max_size=30,
)
CSV_LINES = st.lists(st.text('a1," \r', max_size=8).map(str.encode) | st.just(b"1,2"), max_size=30)


def read(path: Path, start: Position, count: int, options: Options) -> list[tuple[Any, Position]]:
    """Each row (or its fault) with the place after its batch, read in batches of `count` from `start` on."""
    (file,) = find_inputs([str(path)])
    reader = open_reader(file, format_of(file), options)
    found: list[tuple[Any, Position]] = []
    wanted = list(reader.columns) if reader.columns is not None else ["x", VALUE]
    for rows in reader.rows(start, count, wanted):
        assert rows.count == len(rows.numbers) + len(rows.faults)
        good = {
            number: (line, [_value(rows.columns[name][at]) for name in wanted])
            for at, (number, line) in enumerate(zip(rows.numbers, rows.lines, strict=True))
        }
        bad = {fault.row: fault for fault in rows.faults}
        assert sorted([*good, *bad]) == list(range(rows.end.row - rows.count, rows.end.row))
        found += [({**good, **bad}[number], rows.end) for number in sorted({**good, **bad})]
        assert 0 <= reader.share(rows.end) <= 1
    reader.close()
    return found


def _value(value: Any) -> Any:
    return "MISSING" if value is MISSING else value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def check_law(path: Path, options: Options) -> None:
    """Whatever the size of batches: the rows are the same, and from each batch's end come exactly the others."""
    whole = [row for row, _ in read(path, Position(), 1, options)]
    for count in (2, 3, 7):
        batches = read(path, Position(), count, options)
        assert [row for row, _ in batches] == whole
        for end in {end for _, end in batches}:
            again = Position(*end.as_json())
            assert [row for row, _ in read(path, again, count, options)] == whole[end.row :]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON_LINES, st.booleans(), st.booleans())
def test_json_lines(tmp_path: Path, lines: list[bytes], ends: bool, compressed: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    path = tmp_path / ("x.jsonl.gz" if compressed else "x.jsonl")
    path.write_bytes(gzip.compress(data) if compressed else data)
    check_law(path, Options(max_row_bytes=40))
    rows = [row for row, _ in read(path, Position(), 5, Options(max_row_bytes=40))]
    # every line that is not blank is a row, good or bad
    assert len(rows) == sum(bool(line.strip()) for line in data.split(b"\n"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CSV_LINES, st.booleans())
def test_csv_lines(tmp_path: Path, lines: list[bytes], ends: bool) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"a,b\n" + b"\n".join(lines) + (b"\n" if ends else b""))
    check_law(path, Options())


@pytest.mark.parametrize("ending", [*FORMATS, "csv.gz", "tfrecord.gz", "npy.gz"])
def test_every_format(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"x.{ending}", {"x": np.arange(40, dtype=np.float32), "n": np.arange(40)})
    check_law(path, Options())
    assert len(read(path, Position(), 8, Options())) == 40


@pytest.mark.parametrize("limit", [10, 1000])
def test_a_long_line_is_passed_over_wherever_blocks_end(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.batch_jobs.input_file.BLOCK_BYTES", 7)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"x": 1}\n' + b"l" * 2000 + b'\n{"x": 2}\n{"x": 3}\n' + b"m" * 2000)
    check_law(path, Options(max_row_bytes=limit))
    rows = [row for row, _ in read(path, Position(), 1, Options(max_row_bytes=limit))]
    assert [isinstance(row, Fault) for row in rows] == [False, True, False, False, True]
    assert [row.line for row in rows if isinstance(row, Fault)] == [2, 5]
