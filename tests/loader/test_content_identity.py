"""Which files have the same bytes, by what stores say of them."""

import hashlib

import pytest

from loader.content_identity import identity
from loader.manifest import Entry
from loader.store import ObjectInfo

MD5 = "5d41402abc4b2a76b9719d911017c592"


def info(etag: str | None = None, size: int = 5, **more: object) -> ObjectInfo:
    return ObjectInfo("saved_model.pb", size, 0.0, etag, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "etag"),
    [("s3://b/m/1", f'"{MD5}"'), ("s3://b/m/1", f'"{MD5}-12"'), ("s3://b/m/1", MD5), ("gs://b/m/1", f'"{MD5}"')],
)
def test_an_etag_made_of_digests_is_an_identity_in_its_bucket(url: str, etag: str) -> None:
    found = identity(url, info(etag), None)
    assert found is not None
    assert found == identity(url.replace("/m/1", "/other/2"), info(etag), None)
    assert found != identity(url.replace("//b/", "//c/"), info(etag), None)
    assert found != identity(url, info(etag, 6), None)
    assert found != identity(url, info(etag.replace("5d", "6d")), None)


@pytest.mark.parametrize(
    ("url", "etag"),
    [
        ("https://b/m/1", f'"{MD5}"'),
        ("abfs://b@a/m/1", '"0x8DC0A1B2C3D4E5F"'),
        ("gs://b/m/1", f'"{MD5}-12"'),
        ("gs://b/m/1", "CJ2qw6DX"),
        ("s3://b/m/1", f'W/"{MD5}"'),
        ("s3://b/m/1", "6566e1-5b"),
        ("s3://b/m/1", None),
        ("hdfs://n/m/1", None),
    ],
)
def test_what_is_no_digest_is_no_identity(url: str, etag: str | None) -> None:
    assert identity(url, info(etag, crc32c=1), None) is None


def test_a_digest_is_an_identity_everywhere() -> None:
    sha256 = hashlib.sha256(b"hello").hexdigest()
    promised = Entry(5, sha256)
    assert identity("https://a/1", info(), promised) == identity("s3://b/2", info(f'"{MD5}"'), promised)
    certain = info(md5=MD5, md5_certain=True)
    assert identity("gs://a/1", certain, None) == identity("gs://b/2", certain, Entry(5, None))
    assert identity("s3://a/1", info(md5=MD5), None) is None
