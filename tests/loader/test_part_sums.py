"""Sums of parts find every changed byte."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loader import part_sums
from loader.part_sums import PartSums, damaged, sums_of


@given(data=st.data(), content=st.binary(min_size=1, max_size=300), step=st.integers(1, 64))
def test_a_flipped_bit_anywhere_is_found(
    data: st.DataObject, content: bytes, step: int, tmp_path_factory: object
) -> None:
    folder: Path = tmp_path_factory.mktemp("sums")  # type: ignore[attr-defined]
    file = folder / "x"
    file.write_bytes(content)
    before, part_sums.STEP_BYTES = part_sums.STEP_BYTES, step
    try:
        sums = sums_of(file)
        assert damaged(folder, [("x", sums)]) == []
        at = data.draw(st.integers(0, len(content) * 8 - 1))
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        file.write_bytes(flipped)
        assert damaged(folder, [("x", sums)]) == ["x"]
        file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        assert damaged(folder, [("x", sums)]) == ["x"]
    finally:
        part_sums.STEP_BYTES = before


def test_large_files_are_read_in_parts_and_missing_or_nonsensical_ones_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(3 * part_sums.STEP_BYTES + 5))
    (tmp_path / "empty").touch()
    files = {name: sums_of(tmp_path / name) for name in ("large", "empty")}
    assert len(files["large"].crc32) == 4
    assert damaged(tmp_path, files.items()) == []
    with (tmp_path / "large").open("r+b") as file:
        file.seek(2 * part_sums.STEP_BYTES + 7)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte ^ 1,)))
    odd = {"gone": PartSums(1, 1, (0,)), "empty": PartSums(0, 0, (1,))}
    assert damaged(tmp_path, [*files.items(), *odd.items()]) == ["empty", "gone", "large"]
