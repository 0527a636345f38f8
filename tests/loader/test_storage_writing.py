"""Objects are written whole into every kind of store, and read back."""

from pathlib import Path

import pytest

from loader.status import Code, ServingError
from loader.storage import open_storage
from tests.servers.gcs import gcs_server
from tests.servers.hdfs import hdfs_server
from tests.servers.s3 import BUCKET, s3_server
from tests.servers.web import web_server

DRIVERS = ["obstore", "fsspec"]


def check_writing(url: str, driver: str, tmp_path: Path) -> None:
    """What is put is listed, read and replaced; what is deleted is gone, twice."""
    storage = open_storage(url, driver)
    file = tmp_path / "file"
    for content in (b"first", b"the second one"):
        file.write_bytes(content)
        storage.put("a/part-0", file)
        assert storage.read("a/part-0", 0, 100) == content
        info = storage.info("a/part-0")
        assert (info.path, info.size) == ("a/part-0", len(content))
        assert [one.path for one in storage.walk()] == ["a/part-0"]
        assert storage.walk()[0].etag == info.etag
    storage.delete("a/part-0")
    storage.delete("a/part-0")
    with pytest.raises(FileNotFoundError):
        storage.info("a/part-0")


def test_a_local_folder(tmp_path: Path) -> None:
    check_writing(str(tmp_path / "new"), "auto", tmp_path)


def test_memory(tmp_path: Path) -> None:
    check_writing("memory://written/new", "auto", tmp_path)


@pytest.mark.parametrize("driver", DRIVERS)
def test_s3(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        check_writing(f"s3://{BUCKET}/new", driver, tmp_path)
        large = tmp_path / "large"
        large.write_bytes(b"x" * (12 << 20))  # in parts
        storage = open_storage(f"s3://{BUCKET}/new", driver)
        storage.put("large", large)
        assert storage.info("large").size == 12 << 20


@pytest.mark.parametrize("driver", DRIVERS)
def test_cloud_storage(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gcs_server(tmp_path) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        check_writing("gs://models/new", driver, tmp_path)


def test_hdfs(tmp_path: Path) -> None:
    with hdfs_server(tmp_path) as server:
        check_writing(f"{server.url}/new", "auto", tmp_path)


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ServingError, match=r"cannot write .*File exists") as caught:
        open_storage(str(tmp_path / "file")).put("a", tmp_path / "file")
    assert caught.value.code is Code.UNAVAILABLE
    with web_server(tmp_path) as url, pytest.raises(ServingError, match="cannot write"):
        open_storage(url).put("a", tmp_path / "file")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file"]
