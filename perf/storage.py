"""How fast does a model come from a local S3 into the cache, compared with curl; and how soon does the first byte come?

    uv run python perf/storage.py [--minio PATH] [--megabytes 200] [--rounds 7]

Downloads: one object of `--megabytes`, by `ModelCache.fetch` (all of it: listing known, reads, checksum, rename) and by
`curl` as four ranged requests at once, in turn. The object is uploaded twice: in parts, as boto3 and the aws command do
with anything over 8 MB (its ETag is no MD5), and in one piece (its ETag is its MD5, and is checked).
First byte: a fresh process that imports, lists and reads one byte, by obstore and by s3fs; beside it the bare start of
Python.
The server is MinIO where its binary is given, else moto's (much slower than either client).
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3

from loader.cache import ModelCache
from loader.storage import open_storage
from tests.servers.process import free_port, running, wait_for_http
from tests.servers.s3 import s3_server

BUCKET = "models"
CURL_RANGES = 4
KEY = "minioadmin"

FIRST_BYTE = """
import time; at = time.perf_counter()
from loader.storage import open_storage
storage = open_storage("s3://models/parts", {driver!r})
storage.list_versions(); storage.read("1/blob", 0, 1)
print(time.perf_counter() - at)
"""


@contextlib.contextmanager
def server(minio: str, folder: Path) -> Iterator[str]:
    """A local S3; gives its endpoint."""
    if not minio:
        with s3_server(folder) as moto:
            yield moto.endpoint
        return
    endpoint = f"http://127.0.0.1:{free_port()}"
    environ = os.environ | {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": KEY, "MINIO_BROWSER": "off"}
    command = [minio, "server", "--quiet", "--address", endpoint.removeprefix("http://"), str(folder / "minio")]
    with running(command, environ=environ, log=folder / "minio.log"):
        wait_for_http(f"{endpoint}/minio/health/live")
        yield endpoint


def upload(endpoint: str, folder: Path, size: int) -> None:
    """Two versions of the same random bytes, readable by everybody."""
    blob = folder / "blob"
    blob.write_bytes(os.urandom(size))
    client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=KEY)
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=BUCKET)
    client.put_bucket_policy(
        Bucket=BUCKET,
        Policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],'
        f'"Resource":["arn:aws:s3:::{BUCKET}/*"]}}]}}',
    )
    client.upload_file(str(blob), BUCKET, "parts/1/blob")
    with blob.open("rb") as body:
        client.put_object(Bucket=BUCKET, Key="whole/1/blob", Body=body)


def fetch(url: str, folder: Path, blob: Path) -> float:
    """Seconds of one fetch into an empty cache."""
    cache = folder / "cache"
    storage = open_storage(url)
    listing = storage.list_versions()[1]
    at = time.perf_counter()
    path = ModelCache(cache).fetch(storage, listing)
    seconds = time.perf_counter() - at
    _check(path / "blob", blob)
    os.sync()  # the next one starts with a quiet disk
    shutil.rmtree(cache)
    return seconds


def curl(url: str, folder: Path, blob: Path) -> float:
    """Seconds of four ranged requests at once, each into its own file."""
    target = folder / "curl"
    target.mkdir()
    step = -(-blob.stat().st_size // CURL_RANGES)
    at = time.perf_counter()
    processes = [
        subprocess.Popen(["curl", "-sf", "-r", f"{start}-{start + step - 1}", "-o", target / f"{number}", url])
        for number, start in enumerate(range(0, blob.stat().st_size, step))
    ]
    assert [process.wait() for process in processes] == [0] * CURL_RANGES
    seconds = time.perf_counter() - at
    whole = target / "all"
    with whole.open("wb") as out:
        for number in range(CURL_RANGES):
            out.write((target / f"{number}").read_bytes())
    _check(whole, blob)
    shutil.rmtree(target)
    return seconds


def _check(found: Path, wanted: Path) -> None:
    assert subprocess.run(["cmp", "-s", found, wanted], check=False).returncode == 0, "the bytes differ"


def first_byte(driver: str) -> float:
    """Seconds from the first import to the first byte, told by a fresh process."""
    command = [sys.executable, "-c", FIRST_BYTE.format(driver=driver)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bare_start() -> float:
    """Seconds of a Python that does nothing."""
    at = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return time.perf_counter() - at


def main() -> None:
    """Prints all samples, their medians, and the ratio within the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minio", default=shutil.which("minio") or "")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(options.minio, folder := Path(name)) as endpoint:
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
        os.environ |= {"AWS_REGION": "us-east-1"}
        size = options.megabytes << 20
        upload(endpoint, folder, size)
        blob = folder / "blob"
        runs: dict[str, Callable[[], float]] = {
            "curl, 4 ranges": lambda: curl(f"{endpoint}/{BUCKET}/parts/1/blob", folder, blob),
            "fetch, uploaded in parts": lambda: fetch(f"s3://{BUCKET}/parts", folder, blob),
            "fetch, MD5 checked": lambda: fetch(f"s3://{BUCKET}/whole", folder, blob),
        }
        samples = _interleave(runs, options.rounds)
        rates = {run: [size / each / 1e6 for each in found] for run, found in samples.items()}
        reference = statistics.median(rates["curl, 4 ranges"])
        for run, found in rates.items():
            middle = statistics.median(found)
            print(f"{run:26} median {middle:5.0f} MB/s, {middle / reference:4.0%} of curl: {_row(found)}")
        starts: dict[str, Callable[[], float]] = {
            "bare Python": bare_start,
            "first byte, obstore": lambda: first_byte("obstore"),
            "first byte, s3fs": lambda: first_byte("fsspec"),
        }
        for run, found in _interleave(starts, options.rounds).items():
            millis = [each * 1e3 for each in found]
            print(f"{run:26} median {statistics.median(millis):5.0f} ms: {_row(millis)}")


def _row(values: list[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)


def _interleave(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """All samples after one warm-up round, each round running each of `runs` once."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds = run()
            if number:
                samples[name].append(seconds)
    return samples


if __name__ == "__main__":
    main()
