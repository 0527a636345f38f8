"""Versions on the local disk: whole, verified, shared, limited."""

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from loader import cache_record, download
from loader.cache import ModelCache
from loader.completeness import missing
from loader.status import Code, ServingError
from loader.storage import Storage, VersionListing, open_storage
from tests.servers.s3 import S3Server, s3_server
from tests.servers.web import web_server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory, golden: Path) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ.items():
            patch.setenv(name, value)
        server.put_tree(golden / "mlp", "mlp")
        server.put_tree(golden / "golden", "golden")
        yield server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def versions(url: str) -> tuple[Storage, dict[int, VersionListing]]:
    storage = open_storage(url)
    return storage, storage.list_versions()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def models_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "locks")


def test_a_local_folder_is_used_where_it_lies(golden: Path, directory: Path) -> None:
    storage, listed = versions(str(golden / "mlp"))
    assert ModelCache(directory).fetch(storage, listed[1]) == golden / "mlp" / "1"
    assert not directory.exists()


def test_a_remote_version_comes_whole_and_once(s3: S3Server, golden: Path, directory: Path) -> None:
    storage, listed = versions("s3://models/mlp")
    cache = ModelCache(directory)
    path = cache.fetch(storage, listed[1])
    assert path.name == "1"
    assert tree(path) == tree(golden / "mlp" / "1")
    inode = (path / "saved_model.pb").stat().st_ino
    assert ModelCache(directory).fetch(storage, listed[1]) == path
    assert (path / "saved_model.pb").stat().st_ino == inode


def test_a_file_of_many_parts_is_put_together_in_order(
    s3: S3Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(1_000_003)
    s3.put("parts/1/saved_model.pb", content)
    monkeypatch.setattr(download, "PART_BYTES", 10_000)
    storage, listed = versions("s3://models/parts")
    assert listed[1].files[0].md5 == hashlib.md5(content).hexdigest()
    assert (ModelCache(directory).fetch(storage, listed[1]) / "saved_model.pb").read_bytes() == content


def test_a_version_replaced_since_it_was_listed_never_becomes_one(s3: S3Server, directory: Path) -> None:
    s3.put("swapped/1/saved_model.pb", b"one")
    storage, listed = versions("s3://models/swapped")
    s3.put("swapped/1/saved_model.pb", b"two")
    with pytest.raises(ServingError) as caught:
        ModelCache(directory).fetch(storage, listed[1])
    assert caught.value.code is Code.ABORTED
    assert models_in(directory) == []


def test_a_version_that_is_gone_never_becomes_one(s3: S3Server, directory: Path) -> None:
    s3.put("gone/1/saved_model.pb", b"one")
    storage, listed = versions("s3://models/gone")
    s3.client.delete_object(Bucket="models", Key="gone/1/saved_model.pb")
    with pytest.raises(FileNotFoundError):
        ModelCache(directory).fetch(storage, listed[1])
    assert models_in(directory) == []


def test_bytes_that_differ_from_a_promised_checksum_never_become_a_version(s3: S3Server, directory: Path) -> None:
    s3.put("digest/1/saved_model.pb", b"what came")
    s3.put("digest/1/zeroserve.manifest.json", json.dumps({"saved_model.pb": {"sha256": "0" * 64}}).encode())
    storage, listed = versions("s3://models/digest")
    with pytest.raises(ServingError) as caught:
        ModelCache(directory).fetch(storage, listed[1])
    assert caught.value.code is Code.DATA_LOSS
    assert hashlib.sha256(b"what came").hexdigest() in caught.value.message
    assert models_in(directory) == []


def test_a_certain_md5_is_held_to_and_an_etag_that_is_none_is_not(s3: S3Server, directory: Path) -> None:
    s3.put("etag/1/saved_model.pb", b"what came")
    storage, listed = versions("s3://models/etag")
    (info,) = listed[1].files
    # What a bucket with KMS keys looks like: 32 digits that are no MD5 of what is read.
    encrypted = replace(listed[1], files=(replace(info, md5="0" * 32),))
    assert (ModelCache(directory).fetch(storage, encrypted) / "saved_model.pb").read_bytes() == b"what came"
    certain = replace(listed[1], files=(replace(info, md5="0" * 32, md5_certain=True),), fingerprint="f")
    with pytest.raises(ServingError) as caught:
        ModelCache(directory).fetch(storage, certain)
    assert caught.value.code is Code.DATA_LOSS


def test_a_cancelled_fetch_leaves_nothing(s3: S3Server, directory: Path) -> None:
    storage, listed = versions("s3://models/mlp")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(ServingError) as caught:
        ModelCache(directory).fetch(storage, listed[1], cancel)
    assert caught.value.code is Code.CANCELLED
    assert models_in(directory) == []


def test_a_process_killed_in_the_middle_leaves_nothing_that_looks_whole(
    s3: S3Server, golden: Path, directory: Path
) -> None:
    script = f"""
import os, pathlib
from loader import cache, download
from loader.storage import open_storage
def die(*arguments): os._exit(9)
download._Transfer._read = die
storage = open_storage("s3://models/mlp")
cache.ModelCache(pathlib.Path({str(directory)!r})).fetch(storage, storage.list_versions()[1])
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    (left,) = models_in(directory)
    assert left.startswith(".part-")
    storage, listed = versions("s3://models/mlp")
    path = ModelCache(directory).fetch(storage, listed[1])
    assert tree(path) == tree(golden / "mlp" / "1")
    assert models_in(directory) == [path.parent.name]


def _truncate(path: Path) -> None:
    with (path / "variables/variables.data-00000-of-00001").open("r+b") as file:
        file.truncate(10)


def _unrecord(path: Path) -> None:
    (path.parent / cache_record.NAME).unlink()


def _crash(path: Path) -> None:
    """What a crash of the machine leaves of files that were not synced: zeros, in the record too."""
    for file in (path / "saved_model.pb", path.parent / cache_record.NAME):
        file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [_truncate, _unrecord, _crash, shutil.rmtree])
def test_what_is_not_whole_in_the_cache_is_fetched_again(
    damage: Callable[[Path], None], s3: S3Server, golden: Path, directory: Path
) -> None:
    storage, listed = versions("s3://models/mlp")
    cache = ModelCache(directory)
    path = cache.fetch(storage, listed[1])
    damage(path)
    assert cache.fetch(storage, listed[1]) == path
    assert tree(path) == tree(golden / "mlp" / "1")


def test_what_was_not_used_for_longest_makes_room(s3: S3Server, golden: Path, directory: Path) -> None:
    storage, listed = versions("s3://models/golden")
    sizes = {version: listing.size for version, listing in listed.items()}
    cache = ModelCache(directory, max_bytes=max(sizes.values()) + 10)
    first = cache.fetch(storage, listed[1])
    with pytest.raises(ServingError) as caught:
        cache.fetch(storage, listed[2])
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert "raise --cache_max_bytes" in caught.value.message
    assert tree(first) == tree(golden / "golden" / "1")
    cache.release(first)
    second = cache.fetch(storage, listed[2])
    assert not first.exists()
    assert models_in(directory) == [second.parent.name]


def _fetch(directory: Path, barrier: object, answers: object) -> None:
    storage, listed = versions("s3://models/mlp")
    cache = ModelCache(directory)
    barrier.wait()  # type: ignore[attr-defined]
    path = cache.fetch(storage, listed[1])
    answers.put((str(path), (path / "saved_model.pb").stat().st_ino))  # type: ignore[attr-defined]


def test_processes_and_threads_that_fetch_the_same_version_share_one(
    s3: S3Server, golden: Path, directory: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    children = [context.Process(target=_fetch, args=(directory, barrier, answers)) for _ in range(2)]
    for child in children:
        child.start()
    found = {answers.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert len(found) == 1
    cache = ModelCache(directory)
    storage, listed = versions("s3://models/golden")
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(cache.fetch(storage, listed[2], threading.Event())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(set(paths)) == 1
    assert tree(paths[0]) == tree(golden / "golden" / "2")


def test_an_archive_is_unpacked_and_proved(s3: S3Server, golden: Path, directory: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as tar:
        tar.add(golden / "mlp" / "1", "my_model")
    with tarfile.open(tmp_path / "lacking.tar", "w") as tar:
        tar.add(golden / "mlp" / "1" / "saved_model.pb", "saved_model.pb")
    s3.put("packed/7.tar.gz", (tmp_path / "whole.tar.gz").read_bytes())
    s3.put("packed/8.tar", (tmp_path / "lacking.tar").read_bytes())
    s3.put("packed/9.tar.gz", (tmp_path / "whole.tar.gz").read_bytes()[:-20])
    storage, listed = versions("s3://models/packed")
    assert missing(storage, listed[7]) == []
    cache = ModelCache(directory)
    path = cache.fetch(storage, listed[7])
    assert path.name == "7"
    assert tree(path) == tree(golden / "mlp" / "1")
    with pytest.raises(ServingError, match=r"variables.index: not there"):
        cache.fetch(storage, listed[8])
    with pytest.raises(ServingError) as caught:
        cache.fetch(storage, listed[9])
    assert caught.value.code is Code.DATA_LOSS
    assert models_in(directory) == [path.parent.name]


def test_a_local_archive_is_unpacked_from_where_it_lies(golden: Path, directory: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    base.mkdir()
    shutil.make_archive(str(base / "3"), "zip", golden / "mlp" / "1")
    with tarfile.open(base / "4.tgz", "w:gz") as tar:
        tar.add(golden / "mlp" / "1", ".")
    (base / "5.tgz").write_bytes((base / "4.tgz").read_bytes()[:-100])
    (base / "6.zip").write_bytes((base / "3.zip").read_bytes()[:-100])
    (base / "7.tar").write_bytes(bytes(512) + b"x")
    storage, listed = versions(str(base))
    for version in (3, 4):
        assert missing(storage, listed[version]) == []
        assert tree(ModelCache(directory).fetch(storage, listed[version])) == tree(golden / "mlp" / "1")
    assert [bool(missing(storage, listed[version])) for version in (5, 6, 7)] == [True, True, True]
    assert (base / "3.zip").exists()


def test_a_version_may_have_more_files_than_a_process_may_open(directory: Path) -> None:
    files = fsspec.filesystem("memory")
    for number in range(300):
        files.pipe_file(f"/many/1/assets/{number}", b"%d" % number)
    storage, listed = versions("memory://many")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, hard))  # noqa: PTH208
    try:
        path = ModelCache(directory).fetch(storage, listed[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        files.rm("/many", recursive=True)
    assert tree(path) == {f"assets/{number}": b"%d" % number for number in range(300)}


def test_large_files_of_a_server_without_ranges_are_in_memory_one_at_a_time(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PART_BYTES", 1000)
    for name in "abcdef":
        file = tmp_path / "web" / "m" / "1" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 5000)
    reading, most = [0], [0]
    view = Storage.view

    def counted(self: Storage, *arguments: Any) -> memoryview:
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        try:
            return view(self, *arguments)
        finally:
            reading[0] -= 1

    with web_server(tmp_path / "web", ranges=False) as url:
        storage, listed = versions(f"{url}/m")
        monkeypatch.setattr(Storage, "view", counted)
        path = ModelCache(directory).fetch(storage, listed[1])
    assert tree(path) == tree(tmp_path / "web" / "m" / "1")
    assert most == [1]


def test_a_version_that_can_never_fit_removes_no_other(s3: S3Server, golden: Path, directory: Path) -> None:
    storage, listed = versions("s3://models/golden")
    cache = ModelCache(directory, max_bytes=listed[1].size + 10)
    first = cache.fetch(storage, listed[1])
    cache.release(first)
    huge = replace(listed[2], files=(*listed[2].files, replace(listed[2].files[0], path="x", size=listed[1].size + 11)))
    with pytest.raises(ServingError) as caught:
        cache.fetch(storage, huge)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert tree(first) == tree(golden / "golden" / "1")


def test_a_private_cache_folder_of_another_user_is_not_trusted(s3: S3Server, directory: Path) -> None:
    storage, listed = versions("s3://models/mlp")
    assert ModelCache(directory, private=True).fetch(storage, listed[1]).exists()
    assert directory.stat().st_mode & 0o777 == 0o700
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(directory, 12345, -1)
    with pytest.raises(ServingError) as caught:
        ModelCache(directory, private=True).fetch(storage, listed[1])
    assert "it belongs to another user" in caught.value.message


def test_a_cache_folder_that_cannot_be_written_is_told(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage, listed = versions("s3://models/mlp")
    with pytest.raises(ServingError, match="set --cache_directory"):
        ModelCache(tmp_path / "file" / "cache").fetch(storage, listed[1])
