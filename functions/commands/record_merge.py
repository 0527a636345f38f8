"""What servers have recorded (`--record_to`), as one warm-up file: each request once, the newest first.

Source: tensorflow_serving/apis/prediction_log.proto; what is no kind of warm-up record is left out.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import loader.protos as _protos  # before the messages: see there
from functions.tap.sample_log import request_digest
from loader.record_files import record_files
from loader.status import Code, ServingError
from loader.storage import open_storage
from loader.tfrecord import encode, records

assert _protos  # noqa: S101
from google.protobuf.message import DecodeError  # noqa: E402
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog  # noqa: E402

MAX_BYTES = 1 << 30
"""Of all files that are read."""

_KINDS = ("predict_log", "classify_log", "regress_log", "multi_inference_log")


def merged(url: str, driver: str, *, answers: bool) -> Iterator[bytes]:
    """The TFRecords of one file, or of all below a folder, each request once.

    Args:
        url: of the file or the folder, with or without a `/` at its end.
        driver: see `loader.storage.open_storage`.
        answers: whether they are kept.

    Raises:
        ServingError: NOT_FOUND where there is none; DATA_LOSS for a file that is damaged, which is named.
    """
    seen: set[bytes] = set()
    for name, content in _files(url, driver):
        try:
            for record in records(BytesIO(content)):
                log = PredictionLog.FromString(record)
                if log.WhichOneof("log_type") not in _KINDS:
                    continue
                digest = request_digest(log)
                if digest in seen:
                    continue
                seen.add(digest)
                if not answers:
                    getattr(log, log.WhichOneof("log_type")).ClearField("response")
                    record = log.SerializeToString()  # noqa: PLW2901  as it is kept
                yield encode(record)
        except (ServingError, DecodeError) as error:
            words = error.message if isinstance(error, ServingError) else str(error)
            raise ServingError(Code.DATA_LOSS, f"{name}: {words}") from None


def put(url: str, file: Path, driver: str) -> None:
    """Makes a local file the object at `url`. Raises ServingError."""
    folder, _, name = url.rpartition("/")
    open_storage(folder, driver).put(name, file)


def _files(url: str, driver: str) -> Iterator[tuple[str, bytes]]:
    folder = url if url.endswith((".tfrecord", "/")) else f"{url}/"
    try:
        yield from record_files(folder, MAX_BYTES, driver)
    except FileNotFoundError as error:
        raise ServingError(Code.NOT_FOUND, f"--from={url}: {error}") from None
