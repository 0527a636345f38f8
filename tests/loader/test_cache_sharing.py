"""What versions, caches and processes share: files of the same content, and a folder that nobody spoils for others."""

import errno
import fcntl
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loader import cache_record, cache_room
from loader.cache import ModelCache
from loader.cache_lock import Locks
from loader.part_sums import damaged
from loader.status import Code, ServingError
from loader.storage import open_storage
from tests.servers.s3 import BUCKET, S3Server, s3_server

PART = 5 << 20
"""Bytes of one part of an upload; S3 takes no less."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetched(cache: ModelCache, url: str, version: int = 1) -> Path:
    storage = open_storage(url)
    return cache.fetch(storage, storage.list_versions()[version])


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "locks")


def put_in_parts(s3: S3Server, key: str, content: bytes) -> None:
    made = s3.client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    parts = []
    for number, at in enumerate(range(0, len(content), PART), 1):
        answer = s3.client.upload_part(
            Bucket=BUCKET, Key=key, PartNumber=number, UploadId=made, Body=content[at : at + PART]
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.client.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=made, MultipartUpload={"Parts": parts})


def flip(path: Path) -> None:
    """Changes one bit behind everybody's back: the file keeps its size."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte ^ 0x10,)))


def test_unchanged_files_of_a_new_version_are_not_fetched_again(s3: S3Server, directory: Path) -> None:
    shard, small = os.urandom(PART + 1000), os.urandom(50_000)
    for version, graph in ((1, b"one"), (2, b"the second")):
        put_in_parts(s3, f"new/{version}/variables/variables.data-00000-of-00001", shard)
        s3.put(f"new/{version}/assets/words", small)
        s3.put(f"new/{version}/saved_model.pb", graph)
    found: Counter[str] = Counter()
    cache = ModelCache(directory, counted=lambda source, size: found.update({source: size}))
    first = fetched(cache, "s3://models/new", 1)
    assert found == {"storage": len(shard) + len(small) + 3, "cache": 0}
    second = fetched(cache, "s3://models/new", 2)
    assert found == {"storage": len(shard) + len(small) + 3 + 10, "cache": len(shard) + len(small)}
    data = "variables/variables.data-00000-of-00001"
    assert (first / data).stat().st_ino == (second / data).stat().st_ino
    assert tree(second) == {data: shard, "assets/words": small, "saved_model.pb": b"the second"}


def test_a_volume_without_hard_links_still_saves_the_fetch(
    s3: S3Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    for version in (1, 2):
        s3.put(f"copied/{version}/saved_model.pb", b"the same")
    found: Counter[str] = Counter()
    cache = ModelCache(directory, counted=lambda source, size: found.update({source: size}))
    paths = [fetched(cache, "s3://models/copied", version) for version in (1, 2)]
    assert found == {"storage": 8, "cache": 8}
    assert [tree(path) for path in paths] == [{"saved_model.pb": b"the same"}] * 2


def test_what_two_versions_share_counts_once_and_stays_until_the_last_of_them_goes(
    s3: S3Server, directory: Path
) -> None:
    shared = os.urandom(100_000)
    for version in (1, 2, 3):
        s3.put(f"lru/{version}/big", shared if version < 3 else os.urandom(100_000))
        s3.put(f"lru/{version}/saved_model.pb", b"%d" % version)
    cache = ModelCache(directory, max_bytes=200_010)
    first, second = (fetched(cache, "s3://models/lru", version) for version in (1, 2))
    cache.release(first)
    assert tree(second)["big"] == shared
    third = fetched(cache, "s3://models/lru", 3)
    assert first.exists(), "all three have room: two of them are one"
    cache.release(third)
    s3.put("lru/4/big", os.urandom(100_000))
    fourth = fetched(cache, "s3://models/lru", 4)
    assert not first.exists()
    assert not third.exists()
    assert tree(second) == {"big": shared, "saved_model.pb": b"2"}
    assert entries(directory) == sorted([second.parent.name, fourth.parent.name])


def test_a_flipped_bit_is_found_when_the_version_is_used_again(s3: S3Server, directory: Path) -> None:
    content = os.urandom(10_000)
    s3.put("flip/1/saved_model.pb", content)
    cache = ModelCache(directory)
    path = fetched(cache, "s3://models/flip")
    cache.release(path)
    flip(path / "saved_model.pb")
    assert fetched(ModelCache(directory), "s3://models/flip") == path
    assert tree(path) == {"saved_model.pb": content}


def test_a_damaged_version_that_is_in_use_is_fetched_beside_it_and_its_damage_does_not_spread(
    s3: S3Server, directory: Path
) -> None:
    content = os.urandom(10_000)
    s3.put("used/1/saved_model.pb", content)
    s3.put("used/2/saved_model.pb", content)
    user = ModelCache(directory)
    held = fetched(user, "s3://models/used")
    flip(held / "saved_model.pb")
    other = fetched(ModelCache(directory), "s3://models/used")
    assert held.exists()
    assert other != held
    assert tree(other) == tree(fetched(ModelCache(directory), "s3://models/used", 2)) == {"saved_model.pb": content}


HOLD = """
import pathlib, sys, time
from loader.cache import ModelCache
from loader.storage import open_storage
storage = open_storage(sys.argv[2])
cache = ModelCache(pathlib.Path(sys.argv[1]), int(sys.argv[3]))
print("ready", flush=True)
print(cache.fetch(storage, storage.list_versions()[1]), flush=True)
time.sleep(600)
"""


def process(directory: Path, url: str, limit: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD, str(directory), url, str(limit)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def test_what_another_process_uses_is_never_removed_until_that_process_ends(s3: S3Server, directory: Path) -> None:
    content = os.urandom(100_000)
    s3.put("theirs/1/saved_model.pb", content)
    s3.put("ours/1/saved_model.pb", os.urandom(100_000))
    with process(directory, "s3://models/theirs") as user:
        assert user.stdout is not None
        path = Path(user.stdout.readline().strip())
        cache = ModelCache(directory, max_bytes=150_000)
        with pytest.raises(ServingError) as caught:
            fetched(cache, "s3://models/ours")
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert tree(path) == {"saved_model.pb": content}
        user.kill()
        user.wait()
        fetched(cache, "s3://models/ours")
        assert not path.exists()


def test_writers_that_are_killed_at_any_moment_leave_nothing_that_looks_whole_and_is_not(
    s3: S3Server, directory: Path
) -> None:
    files = {f"assets/{number}": os.urandom(20_000) for number in range(40)}
    for name, content in files.items():
        s3.put(f"killed/1/{name}", content)
    chance = random.Random(7)
    for _ in range(6):
        with process(directory, "s3://models/killed") as first, process(directory, "s3://models/killed") as second:
            threading.Event().wait(chance.uniform(0, 0.3))
            first.kill()
            second.kill()
        for record in directory.glob(f"*/{cache_record.NAME}"):
            found = cache_record.read(record.parent)
            assert found is not None
            assert damaged(record.parent / found.folder, ((n, one.sums) for n, one in found.files.items())) == []
        shutil.rmtree(directory / "v1", ignore_errors=True)
        if chance.random() < 0.5:
            for entry in directory.glob("v1-*"):
                shutil.rmtree(entry)  # so that the next ones write again
    path = fetched(ModelCache(directory), "s3://models/killed")
    assert tree(path) == files
    s3.put("after/1/saved_model.pb", b"x")
    last = fetched(ModelCache(directory), "s3://models/after")
    assert entries(directory) == sorted([path.parent.name, last.parent.name]), "what they left is gone"


def test_a_full_disk_is_told_and_leaves_the_rest_as_it_was(s3: S3Server, directory: Path) -> None:
    s3.put("small/1/saved_model.pb", b"small")
    s3.put("large/1/saved_model.pb", os.urandom(200_000))
    cache = ModelCache(directory)
    small = fetched(cache, "s3://models/small")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a full disk, in the middle of the file
    try:
        with pytest.raises(ServingError) as caught:
            fetched(cache, "s3://models/large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert "give the cache a larger disk" in caught.value.message
    assert entries(directory) == [small.parent.name]
    assert tree(small) == {"saved_model.pb": b"small"}
    assert tree(fetched(cache, "s3://models/large")).keys() == {"saved_model.pb"}


def test_a_disk_that_is_nearly_full_is_cleared_of_what_nobody_uses(
    s3: S3Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("one", "two", "three"):
        s3.put(f"disk-{model}/1/saved_model.pb", os.urandom(100_000))

    def disk_usage(path: Path) -> Any:
        used = sum(each.stat().st_size for each in Path(path).rglob("saved_model.pb"))
        return shutil._ntuple_diskusage(250_000, used, 250_000 - used)  # type: ignore[attr-defined]

    monkeypatch.setattr(cache_room.shutil, "disk_usage", disk_usage)
    cache = ModelCache(directory)
    one, two = (fetched(cache, f"s3://models/disk-{model}") for model in ("one", "two"))
    with pytest.raises(ServingError, match=r"free in .*: give the cache a larger disk"):
        fetched(cache, "s3://models/disk-three")
    cache.release(one)
    fetched(cache, "s3://models/disk-three")
    assert not one.exists()
    assert two.exists()


def test_where_locks_do_not_work_versions_are_shared_and_nothing_is_removed(
    s3: S3Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not Locks(directory / "locks").work()
    for model in ("one", "two"):
        s3.put(f"lockless-{model}/1/saved_model.pb", os.urandom(100_000))
    caches = [ModelCache(directory) for _ in range(4)]
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda cache=cache: paths.append(fetched(cache, "s3://models/lockless-one")))
        for cache in caches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(set(paths)) == 1
    caches[0].release(paths[0])
    with pytest.raises(ServingError) as caught:
        fetched(ModelCache(directory, max_bytes=150_000), "s3://models/lockless-two")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    flip(paths[0] / "saved_model.pb")
    again = fetched(ModelCache(directory), "s3://models/lockless-one")
    assert again != paths[0]
    assert paths[0].exists()


class Caches(RuleBasedStateMachine):
    """Two caches on one folder do what two processes do: whatever happens, what is held is whole and stays."""

    VERSIONS = 4
    LIMIT = 4_000

    def __init__(self) -> None:
        super().__init__()
        self.root = f"laws-{os.urandom(6).hex()}"
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name)
        self.caches = [ModelCache(self.directory, self.LIMIT) for _ in range(2)]
        self.held: list[tuple[int, int, Path]] = []
        self.files: dict[int, dict[str, bytes]] = {}
        store = fsspec.filesystem("memory")
        for version in range(1, self.VERSIONS + 1):
            # Neighbours share a file.
            content = {"saved_model.pb": b"%d" % version * 500, "shared": b"%d" % (version // 2) * 1000}
            manifest = {name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()}
            content["zeroserve.manifest.json"] = json.dumps(manifest).encode()
            for name, data in content.items():
                store.pipe_file(f"/{self.root}/{version}/{name}", data)
            self.files[version] = content
        self.storage = open_storage(f"memory://{self.root}")
        self.listed = self.storage.list_versions()

    def teardown(self) -> None:
        fsspec.filesystem("memory").rm(f"/{self.root}", recursive=True)
        for who, _, path in self.held:
            self.caches[who].release(path)
        self.folder.cleanup()

    @rule(who=st.integers(0, 1), version=st.integers(1, VERSIONS))
    def fetch(self, who: int, version: int) -> None:
        try:
            path = self.caches[who].fetch(self.storage, self.listed[version])
        except ServingError as error:
            if error.code is not Code.RESOURCE_EXHAUSTED:
                raise
            return
        assert tree(path) == self.files[version]
        self.held.append((who, version, path))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        who, _, path = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.caches[who].release(path)

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        in_use = {file.stat().st_ino for _, _, path in self.held for file in path.rglob("*")}
        found = sorted(file for file in self.directory.glob("v*/*/s*") if file.stat().st_ino not in in_use)
        if found:
            flip(data.draw(st.sampled_from(found)))

    @rule(version=st.integers(1, VERSIONS))
    def crash_while_fetching(self, version: int) -> None:
        part = self.directory / f".part-v{version}-{self.listed[version].fingerprint}-00000000-deadbeef"
        (part / str(version)).mkdir(parents=True, exist_ok=True)
        (part / str(version) / "saved_model.pb").write_bytes(b"h")

    @invariant()
    def what_is_held_is_whole(self) -> None:
        assert all(tree(path) == self.files[version] for _, version, path in self.held)

    @invariant()
    def the_limit_holds(self) -> None:
        inodes = {file.stat().st_ino: file.stat().st_size for file in self.directory.glob("v*/*/*")}
        assert sum(inodes.values()) <= self.LIMIT


TestCaches = Caches.TestCase
TestCaches.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
