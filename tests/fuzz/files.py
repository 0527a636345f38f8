"""Targets: files from storage. Models, archives, records of warm-up requests, sidecars, configuration."""

import base64
import contextlib
import functools
import gzip
import hashlib
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import google_crc32c

import loader.protos as _protos

assert _protos
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog  # noqa: E402

from functions import sidecar  # noqa: E402
from loader import manifest, meta_graph, object_name, signed_model, tfrecord, warmup  # noqa: E402
from loader.archive import ArchiveLimits, unpack  # noqa: E402
from loader.batching_parameters import parse_batching_parameters  # noqa: E402
from loader.bundle_index import BundleIndexError, shard_sizes  # noqa: E402
from loader.manifest import ManifestError  # noqa: E402
from loader.model_config import parse_model_config  # noqa: E402
from loader.saved_model_proof import needs  # noqa: E402
from loader.signature import parse_signature  # noqa: E402
from loader.status import Code, ServingError  # noqa: E402
from loader.wire import WireError, fields, length_field, messages  # noqa: E402
from tests.functions.served import GOLDEN_MODELS, model_config  # noqa: E402
from tests.fuzz.bodies import recorded_predictions, signatures  # noqa: E402
from tests.fuzz.target import DefectError, Target  # noqa: E402

MAX_MODEL_BYTES = 16 << 10
MAX_PART_BYTES = 2048


def model_files(name: str) -> list[bytes]:
    """The files of that name of the recorded models."""
    return [file.read_bytes() for file in sorted(GOLDEN_MODELS.glob(f"*/*/**/{name}"))]


@functools.cache
def small_models() -> list[bytes]:
    """The recorded saved_model.pb, without what is large in their graphs."""
    found = []
    for whole in model_files("saved_model.pb"):
        if len(whole) < MAX_MODEL_BYTES:
            found.append(whole)
            continue
        (graph,) = messages(memoryview(whole), 2)
        parts = [(number, bytes(value)) for number, value in fields(graph) if isinstance(value, memoryview)]
        kept = b"".join(length_field(number, value) for number, value in parts if len(value) < MAX_PART_BYTES)
        found.append(length_field(2, kept))
    return found


def saved_model(data: bytes) -> None:
    view = memoryview(data)
    graphs = meta_graph.scan(view)
    needs(lambda start, end: data[start:end], len(data))
    for graph in graphs:
        meta_graph.choose(graphs, graph.tags)
        for name, serialized in graph.signatures.items():
            parse_signature(name, serialized)


def wire(data: bytes) -> None:
    for _, value in fields(memoryview(data)):
        if isinstance(value, memoryview) and len(value) > len(data):
            raise DefectError("a field is longer than the message")


def variables_index(data: bytes) -> None:
    """As it is, then as a block inside a table whose checksums are right; the first byte is its compression."""
    with contextlib.suppress(BundleIndexError):
        shard_sizes(data)
    shard_sizes(table(data[1:], data[:1] or b"\0"))


def table(block: bytes, compression: bytes) -> bytes:
    """A table of one block."""
    body = sealed(block, compression)
    handle = varint(0) + varint(len(block))
    index = varint(0) + varint(1) + varint(len(handle)) + b"k" + handle + bytes(4) + (1).to_bytes(4, "little")
    footer = varint(0) + varint(0) + varint(len(body)) + varint(len(index))
    magic = (0xDB4775248B80FB57).to_bytes(8, "little")
    return body + sealed(index, b"\0") + footer.ljust(40, b"\0") + magic


def sealed(block: bytes, compression: bytes) -> bytes:
    crc = google_crc32c.value(block + compression)
    return block + compression + (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes((value,))


def variables_index_corpus() -> list[bytes]:
    entries = varint(0) + varint(0) + varint(2) + b"\x08\1" + varint(0) + varint(1) + varint(4) + b"a\x20\4\x28\4"
    block = entries + bytes(4) + (1).to_bytes(4, "little")
    snappy = varint(len(block)) + bytes(((len(block) - 1) << 2,)) + block
    copies = varint(1 << 16) + b"\0a" + b"\xfe\1\0" * 1024
    return [*model_files("variables.index"), b"\0" + block, b"\1" + snappy, b"\1" + copies]


def archive(ending: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, target = Path(folder) / f"1{ending}", Path(folder) / "out"
        file.write_bytes(data)
        try:
            unpack(file, target, ArchiveLimits(members=200, bytes=8 << 20, ratio=200, ratio_from_bytes=1 << 20))
        finally:
            outside = {each.name for each in Path(folder).iterdir()} - {file.name, "out", "out.inner"}
            strange = [each for each in Path(folder).rglob("*") if each.is_symlink()]
            if outside or strange:
                raise DefectError(f"unpacked to {outside or strange}")


@functools.cache
def tar_corpus() -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for name in ("1/saved_model.pb", "1/variables/variables.index", "1/" + "n" * 90 + "/" + "n" * 90):
                info = tarfile.TarInfo(name)
                info.size = 5
                tar.addfile(info, io.BytesIO(b"hello"))
            link = tarfile.TarInfo("1/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            if form == tarfile.GNU_FORMAT:
                tar.addfile(link)
        found.append(out.getvalue())
    return found


@functools.cache
def zip_corpus() -> list[bytes]:
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", kind) as file:
            file.writestr("1/saved_model.pb", b"hello" * 20)
            file.writestr("1/variables/", b"")
            file.comment = b"c"
        found.append(out.getvalue())
    return found


def warmup_file(data: bytes) -> None:
    """As a file, then as one record in it that is whole."""
    with contextlib.suppress(ServingError):
        list(tfrecord.records(io.BytesIO(data)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / warmup.WARMUP_FILE
        file.parent.mkdir()
        file.write_bytes(tfrecord.encode(data))
        warmup.replay(Path(folder), _Model())


class _Model:
    """Takes every call of the recorded model's signatures and runs nothing."""

    def __init__(self) -> None:
        self.signatures = signatures()
        self.session = self

    def run(self, *_: object, **__: object) -> list[object]:
        raise ServingError(Code.CANCELLED, "the decoding is what matters")

    def close(self) -> None:
        """Nothing to close."""


def warmup_corpus() -> list[bytes]:
    found = []
    for request in recorded_predictions()[:10]:
        log = PredictionLog()
        log.predict_log.request.CopyFrom(request)
        found.append(log.SerializeToString())
    log = PredictionLog()
    log.classify_log.request.input.example_list_with_context.examples.add()
    return [*found, log.SerializeToString(), tfrecord.encode(b"abc") * 2]


def sidecar_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / sidecar.FOLDER / sidecar.FILE
        file.parent.mkdir()
        file.write_bytes(data)
        (file.parent / sidecar.LABELS).write_bytes(data[:20])
        sidecar.read_sidecar(Path(folder))


def sidecar_corpus() -> list[bytes]:
    rules = {"width": 8, "height": 8, "channels": "RGB", "mean": [1, 2, 3.5], "std": 2, "scale": 0.1, "top_k": 3}
    return [json.dumps({"image": rules}).encode(), b'{"image": {}, "batching": {"x": {"1": "n"}}}']


def config_text(parse: Callable[[str], object], data: bytes) -> None:
    parse(data.decode("utf-8", "replace"))


_CONFIG_WORDS = (
    *b"{ } : \" ' , ; < > [ ] # config model_config_list name base_path version_labels specific".split(b" "),
    *b'versions: all "\\xff" 1e400 99999999999999999999'.split(b" "),
    b"[type.googleapis.com/a.B] {}",
    b"{" * 500,
    b"model_config_list { " * 100,
)
_TAR_WORDS = (bytes(512), b"ustar\x0000", b"0000644\0", b"13 path=../a\n", *(b"../ / x g L S 1 2".split(b" ")))
_PROTO_WORDS = (*(bytes((number << 3 | kind,)) for number in range(1, 9) for kind in (0, 2)), b"\xff" * 9 + b"\1")


class Anybody(signed_model.SigningKeys):
    """Trusts every signature, so that what is signed is read."""

    def __init__(self) -> None:
        pass

    def verify(self, signature: bytes, message: bytes) -> bool:
        return True


def signature_file(data: bytes) -> None:
    """As a bundle, then as the statement inside one."""
    with contextlib.suppress(signed_model.SignatureError):
        signed_model.signed_files(data, Anybody())
    for path in signed_model.signed_files(bundle_of(data), Anybody()):
        if object_name.fault(path) is not None:
            raise DefectError(f"vouches for {path!r}")


def bundle_of(statement: bytes) -> bytes:
    envelope = {
        "payload": base64.b64encode(statement).decode(),
        "payloadType": signed_model.PAYLOAD_TYPE,
        "signatures": [{"sig": "AA=="}],
    }
    return json.dumps({"mediaType": signed_model.BUNDLE_TYPE, "dsseEnvelope": envelope}).encode()


def signature_corpus() -> list[bytes]:
    digests = [hashlib.sha256(b"a").digest(), hashlib.blake2b(b"b").digest()]
    statement = {
        "_type": signed_model.STATEMENT_TYPE,
        "subject": [{"name": "m", "digest": {"sha256": hashlib.sha256(b"".join(digests)).hexdigest()}}],
        "predicateType": signed_model.PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256"},
            "resources": [
                {"name": "saved_model.pb", "algorithm": "sha256", "digest": digests[0].hex()},
                {"name": "variables/variables.index", "algorithm": "blake2", "digest": digests[1].hex()},
            ],
        },
    }
    whole = json.dumps(statement).encode()
    return [whole, bundle_of(whole)]


TARGETS = (
    Target("saved_model", saved_model, small_models, errors=(ServingError, WireError), words=_PROTO_WORDS),
    Target("wire", wire, small_models, errors=(WireError,), words=_PROTO_WORDS),
    Target("variables_index", variables_index, variables_index_corpus, errors=(BundleIndexError,)),
    Target("tar", functools.partial(archive, ".tar"), tar_corpus, words=_TAR_WORDS),
    Target(
        "tar_gz",
        functools.partial(archive, ".tar.gz"),
        lambda: [gzip.compress(each, mtime=0) for each in (*tar_corpus(), bytes(3 << 20))],
    ),
    Target("zip", functools.partial(archive, ".zip"), zip_corpus, words=(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"../")),
    Target("warmup", warmup_file, warmup_corpus, words=_PROTO_WORDS),
    Target("sidecar", sidecar_file, sidecar_corpus, words=(b"[" * 2000, b'"image"', b"1e999", b"9" * 400)),
    Target(
        "manifest",
        lambda data: void(manifest.parse(data)),
        lambda: [b'{"saved_model.pb": {"size": 3, "sha256": "%b"}}' % (b"a" * 64)],
        errors=(ManifestError,),
        words=(b"[" * 2000, b'"../a"', b"-1", b"1e999"),
    ),
    Target(
        "signed_model",
        signature_file,
        signature_corpus,
        errors=(signed_model.SignatureError,),
        words=(b"[" * 2000, b'"../a"', b'"name"', b"1e999", b'"blake2"', b"\\ud800"),
    ),
    Target(
        "model_config",
        functools.partial(config_text, parse_model_config),
        lambda: [model_config('version_labels { key: "stable" value: 1 }').encode()],
        words=_CONFIG_WORDS,
    ),
    Target(
        "batching_parameters",
        functools.partial(config_text, parse_batching_parameters),
        lambda: [
            b"max_batch_size { value: 4 } allowed_batch_sizes: 2 allowed_batch_sizes: 4 thread_pool_name { value: 'a' }"
        ],
        words=_CONFIG_WORDS,
    ),
)


def void(_: object) -> None:
    """For targets whose result does not matter."""
