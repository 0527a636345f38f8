"""A real S3 server: moto's, from PyPI."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.process import running, wait_for_line

BUCKET = "models"


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and a boto3 client of it."""

    endpoint: str
    client: Any

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def put_tree(self, folder: Path, prefix: str) -> None:
        """Uploads all files below a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())

    def put(self, key: str, body: bytes) -> None:
        """Uploads one object in one part."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)


@contextlib.contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    """An empty server with the one bucket `models`, on any free port of `host`."""
    log = folder / "moto.log"
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", "0"]
    with running(command, environ=os.environ | {"PYTHONWARNINGS": "ignore"}, log=log) as process:
        endpoint = wait_for_line(process, log, r"Running on (http://[\d.]+:\d+)").group(1)
        import boto3  # noqa: PLC0415  # 0.3 s that only these tests need

        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        yield S3Server(endpoint, client)
        client.close()
