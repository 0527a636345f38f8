"""A file appears whole, and what is no file stays what it is."""

import os
import stat
from pathlib import Path

from functions.whole_file import is_special, write_whole


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "port"
    target.write_bytes(b"old and longer")
    write_whole(target, b"8500\n")
    assert target.read_bytes() == b"8500\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "port"
    target.symlink_to(os.devnull)  # a failure costs this link, not the machine's device
    assert is_special(target)
    write_whole(target, b"8500\n")
    assert target.is_symlink()
    assert stat.S_ISCHR(target.stat().st_mode)
    assert list(tmp_path.iterdir()) == [target]
