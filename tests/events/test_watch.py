"""A place that is looked at: what is told of, and what is not."""

import queue
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.watch import Looked, Watcher
from events.watch_event import Landed
from events.watch_models import WatchedPlace
from events.watch_outbox import Outbox
from events.watch_sink import Answer
from events.watch_told import Told
from loader.storage import open_storage

SECONDS = 30


class Watched:
    """A watcher of one folder whose sink takes everything."""

    def __init__(self, folder: Path, interval: float = 60) -> None:
        self.told = Told()
        self.delivered: queue.Queue[Landed] = queue.Queue()
        self.looks: queue.Queue[Looked] = queue.Queue()
        self.failures: queue.Queue[str] = queue.Queue()
        self.outbox = Outbox(lambda _: Answer(delivered=True), self._settled, lambda *_: None)
        place = WatchedPlace(open_storage(str(folder)))
        self.watcher = Watcher(place, self.outbox, self.told, interval, looked=self.looks.put, failed=self.failures.put)

    def _settled(self, landed: Landed, _: bool) -> None:
        self.told.note(landed)
        self.delivered.put(landed)

    def look(self, events: int) -> list[str]:
        """Looks once, and gives the subjects of so many events that come of it; more would fail the next look."""
        assert self.watcher.look() == ""
        found = sorted(self.delivered.get(timeout=SECONDS).subject for _ in range(events))
        assert self.delivered.empty()
        return found


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    one = Watched(tmp_path)
    yield one
    one.outbox.close(SECONDS)


def test_each_complete_version_is_told_of_once(tmp_path: Path, watched: Watched, golden: Path) -> None:
    shutil.copytree(golden / "half_plus_two", tmp_path, dirs_exist_ok=True)
    versions = sorted(path.name for path in (golden / "half_plus_two").iterdir())
    assert watched.look(len(versions)) == versions
    assert watched.look(0) == []


def test_models_below_a_folder_are_found_by_one_listing(tmp_path: Path, watched: Watched, golden: Path) -> None:
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "a" / "3")
    shutil.copytree(golden / "mlp" / "1", tmp_path / "b" / "00000012")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme").write_text("x")
    assert watched.look(2) == ["a/3", "b/00000012"]


def test_an_archive_is_a_version(tmp_path: Path, watched: Watched, golden: Path) -> None:
    with tarfile.open(tmp_path / "7.tar.gz", "w:gz") as archive:
        archive.add(golden / "half_plus_two" / "1", arcname=".")
    assert watched.look(1) == ["7.tar.gz"]


def test_a_version_is_not_told_of_before_its_last_file_is_whole(tmp_path: Path, watched: Watched, golden: Path) -> None:
    source = golden / "mlp" / "1"
    files = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    last = files.pop()
    for path in files:
        target = tmp_path / "7" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        assert watched.look(0) == []
    whole = last.read_bytes()
    target = tmp_path / "7" / last.relative_to(source)
    for end in (0, 1, len(whole) // 2, len(whole) - 1):
        target.write_bytes(whole[:end])
        assert watched.look(0) == []
    incomplete = watched.looks.queue[-1].incomplete
    assert str(target.relative_to(tmp_path / "7")) in incomplete[str(tmp_path / "7")]
    target.write_bytes(whole)
    assert watched.look(1) == ["7"]


def test_a_version_that_changes_is_told_of_again(tmp_path: Path, watched: Watched, golden: Path) -> None:
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "7")
    first = watched.look(1)
    (tmp_path / "7" / "extra").write_text("x")
    assert watched.look(1) == first == ["7"]


def test_a_version_that_goes_and_returns_is_told_of_again(tmp_path: Path, watched: Watched, golden: Path) -> None:
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "7")
    watched.look(1)
    (tmp_path / "7").rename(tmp_path / "away")
    watched.look(0)
    assert watched.looks.queue[-1].gone == [str(tmp_path / "7")]
    (tmp_path / "away").rename(tmp_path / "7")
    assert watched.look(1) == ["7"]


def test_a_place_that_is_not_there_is_said_and_looked_at_again(tmp_path: Path, golden: Path) -> None:
    one = Watched(tmp_path / "none", interval=0.05)
    thread = threading.Thread(target=one.watcher.run)
    thread.start()
    assert "nothing there yet" in one.failures.get(timeout=SECONDS)
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "none" / "7")
    assert one.delivered.get(timeout=SECONDS).subject == "7"
    assert one.failures.empty()  # once is enough
    one.watcher.stop()
    thread.join(SECONDS)
    one.outbox.close(SECONDS)


def test_a_notice_is_a_look_at_once(tmp_path: Path, golden: Path) -> None:
    one = Watched(tmp_path, interval=3600)
    thread = threading.Thread(target=one.watcher.run)
    thread.start()
    one.looks.get(timeout=SECONDS)
    shutil.copytree(golden / "half_plus_two" / "1", tmp_path / "7")
    one.watcher.look_now()
    assert one.delivered.get(timeout=SECONDS).subject == "7"
    one.watcher.stop()
    thread.join(SECONDS)
    one.outbox.close(SECONDS)
