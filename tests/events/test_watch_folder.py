"""Real inotify on real folders."""

import contextlib
import queue
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.watch_folder import RENEW_SECONDS, FolderWatch, is_remote

SECONDS = 30


@contextlib.contextmanager
def watched(*folders: Path) -> Iterator[threading.Event]:
    """Set by each notice."""
    noticed = threading.Event()
    watch = FolderWatch(lambda: folders, noticed.set)
    watch.start()
    try:
        yield noticed
    finally:
        watch.close()


def settle(noticed: threading.Event) -> None:
    """Waits for the notice that the watch has begun."""
    assert noticed.wait(SECONDS)
    noticed.clear()


def test_a_file_that_is_written_is_noticed(tmp_path: Path) -> None:
    with watched(tmp_path) as noticed:
        settle(noticed)
        (tmp_path / "file").write_text("x")
        assert noticed.wait(SECONDS)


def test_a_file_in_a_new_folder_is_noticed(tmp_path: Path) -> None:
    with watched(tmp_path) as noticed:
        settle(noticed)
        (tmp_path / "7" / "variables").mkdir(parents=True)
        assert noticed.wait(SECONDS)
        noticed.clear()
        (tmp_path / "7" / "variables" / "file").write_text("x")
        assert noticed.wait(SECONDS)


def test_a_rename_and_a_removal_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with watched(tmp_path) as noticed:
        settle(noticed)
        (tmp_path / "tmp").rename(tmp_path / "7")
        assert noticed.wait(SECONDS)
        noticed.clear()
        (tmp_path / "7").rmdir()
        assert noticed.wait(SECONDS)


def test_a_folder_that_comes_later_is_watched_then(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    with watched(folder) as noticed:
        folder.mkdir()
        settle(noticed)
        (folder / "file").write_text("x")
        assert noticed.wait(SECONDS)


def test_a_folder_that_goes_and_comes_anew_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    with watched(folder) as noticed:
        settle(noticed)
        shutil.rmtree(folder)
        assert noticed.wait(SECONDS)
        folder.mkdir()
        noticed.clear()
        for number in range(SECONDS * 10):
            # Until the watch is made anew nothing is noticed; it is made within `RENEW_SECONDS`.
            (folder / f"file{number}").write_text("x")
            if noticed.wait(0.1):
                break
        assert noticed.is_set()


def test_after_the_last_change_there_is_one_more_notice_and_then_none(tmp_path: Path) -> None:
    notices: queue.Queue[None] = queue.Queue()
    watch = FolderWatch(lambda: [tmp_path], lambda: notices.put(None))
    watch.start()
    notices.get(timeout=SECONDS)
    (tmp_path / "file").touch()
    for _ in range(2):
        notices.get(timeout=SECONDS)
    with pytest.raises(queue.Empty):
        notices.get(timeout=2 * RENEW_SECONDS)
    watch.close()


MOUNTS = r"""
22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /mnt/models rw shared:2 - nfs4 server:/models rw
31 22 0:31 / /mnt/with\040space rw - fuse.s3fs s3fs rw
32 30 0:32 / /mnt/models/local rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "remote"),
    [
        ("/models", False),
        ("/mnt/models", True),
        ("/mnt/models/resnet", True),
        ("/mnt/models2", False),
        ("/mnt/models/local/m", False),
        ("/mnt/with space/m", True),
    ],
)
def test_a_folder_that_other_machines_write_to_is_told_by_its_mount(folder: str, remote: bool) -> None:
    assert is_remote(Path(folder), MOUNTS) is remote


def test_a_temporary_folder_of_this_machine_is_not_remote(tmp_path: Path) -> None:
    assert not is_remote(tmp_path)
