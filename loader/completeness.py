"""Whether a version is all there, proved from its bytes; and if not, what is missing, in words.

TensorFlow itself loads a half-copied model and answers with uninitialised variables; nothing here is loaded before
- `saved_model.pb` is whole and holds a meta graph,
- every asset that it names is there,
- `variables.index` is whole, and every shard it names has at least the bytes it needs,
- or, in a mix's place, `mix.json` is whole and names nothing that it does not declare (`loader.mixing.declaration`),
- every file of a manifest (`loader.manifest`), where the uploader wrote one, has its size (and, for a local folder that
  is used in place, its digest; what is downloaded is digested on the way, see `loader.cache`),
- no file has the name of an upload that is still running.

Cheap by design: a proof is kept by the listing's fingerprint, so an unchanged complete version is not read again; of
remote models only small files are read.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping

from loader import bundle_index, manifest, object_name
from loader.format import format_file, format_named
from loader.mixing import mix_file
from loader.saved_model_proof import Needs, needs
from loader.status import Code, ServingError
from loader.storage import MAX_PROOFS, Storage, VersionListing
from loader.store import ObjectInfo
from loader.wire import WireError

MAX_TEXT_MODEL_BYTES = 256 << 20
"""Bytes of a `saved_model.pbtxt` that are parsed."""

DIGEST_CHUNK_BYTES = 4 << 20

SUCCESS_MARKER = "_SUCCESS"
"""Hadoop's mark of a finished job: with it, names of unfinished uploads are leftovers and do not count."""

_UNFINISHED_ENDS = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", "._COPYING_", ".uploading")
_UNFINISHED_PARTS = ("_temporary", "_tmp", ".staging")
_TAR_BLOCK = 512
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22 + 65535


def missing(storage: Storage, listing: VersionListing) -> list[str]:
    """What this version lacks; an empty list for one that is complete.

    Returns:
        One text for each fault, for people: `variables/variables.data-00000-of-00001: 1024 of 4096 bytes`.

    Raises:
        ServingError: UNAVAILABLE, PERMISSION_DENIED: the storage cannot be asked. Nothing is concluded from that.
    """
    if listing.fingerprint in storage.proofs:
        return []
    try:
        found = list(_faults(storage, listing))
    except FileNotFoundError as error:
        return [f"{error}: gone while it was looked at"]
    except ServingError as error:
        if error.code is not Code.ABORTED:
            raise
        return [error.message]
    if not found:
        storage.proofs[listing.fingerprint] = None
        while len(storage.proofs) > MAX_PROOFS:
            storage.proofs.popitem(last=False)
    return found


def read_manifest(storage: Storage, listing: VersionListing) -> dict[str, manifest.Entry]:
    """What the version's manifest says, by path; empty where it has none.

    Raises:
        manifest.ManifestError: it is not a manifest.
    """
    info = next((info for info in listing.files if info.path == manifest.NAME), None)
    if info is None or listing.archive is not None:
        return {}
    if info.size > manifest.MAX_BYTES:
        raise manifest.ManifestError(f"has {info.size} bytes, at most {manifest.MAX_BYTES} are read")
    return manifest.parse(storage.read(f"{listing.name}/{info.path}", 0, info.size, info.etag))


def _faults(storage: Storage, listing: VersionListing) -> Iterator[str]:
    if listing.refused:
        yield from listing.refused
        return
    if listing.archive is not None:
        yield from _archive_faults(storage, listing)
        return
    files = {info.path: info for info in listing.files}
    if SUCCESS_MARKER not in files:
        yield from (f"{object_name.shown(path)}: an upload that is still running" for path in files if unfinished(path))
    yield from _manifest_faults(storage, listing, files)
    if "saved_model.pb" in files:
        wanted = _saved_model_needs(storage, listing, files["saved_model.pb"])
    elif "saved_model.pbtxt" in files:
        wanted = _text_model_needs(storage, listing, files["saved_model.pbtxt"])
    elif mix_file.NAME in files:
        yield from _mix_faults(storage, listing, files[mix_file.NAME])
        return
    elif file := format_file(files):
        path, info = f"{listing.name}/{file}", files[file]
        sizes = {path: one.size for path, one in files.items()}
        yield from format_named(file).faults(
            lambda start, end: storage.read(path, start, end, info.etag), info.size, sizes
        )
        return
    else:
        yield "saved_model.pb: not there"
        return
    if isinstance(wanted, str):
        yield wanted
        return
    for asset in sorted(wanted.assets):
        if f"assets/{asset}" not in files:
            yield f"assets/{object_name.shown(asset)}: not there, but saved_model.pb names it"
    yield from _variable_faults(storage, listing, files, wanted)


def unfinished(path: str) -> bool:
    """Whether a file has a name that uploaders use until the upload is done.

    Source: hdfs dfs -put (`._COPYING_`), Hadoop's output committer (`_temporary`), rsync (`.name.XXXXXX`), browsers
    and download tools (`.part`, `.crdownload`).
    """
    parts = path.split("/")
    name = parts[-1]
    stem, dot, random = name[1:].rpartition(".")
    rsync = name.startswith(".") and dot and "." in stem and len(random) == 6 and random.isalnum()
    return bool(name.endswith(_UNFINISHED_ENDS) or rsync or any(part in _UNFINISHED_PARTS for part in parts))


def _saved_model_needs(storage: Storage, listing: VersionListing, info: ObjectInfo) -> Needs | str:
    path = f"{listing.name}/{info.path}"
    try:
        return needs(lambda start, end: storage.read(path, start, end, info.etag), info.size)
    except WireError as error:
        return f"{info.path}: {info.size} bytes that are not a whole SavedModel ({error})"


def _text_model_needs(storage: Storage, listing: VersionListing, info: ObjectInfo) -> Needs | str:
    if info.size > MAX_TEXT_MODEL_BYTES:
        return f"{info.path}: {info.size} bytes, at most {MAX_TEXT_MODEL_BYTES} are read; save it as saved_model.pb"
    try:
        import loader.protos  # noqa: F401, PLC0415  # almost no model is saved as text
    except ModuleNotFoundError:
        return f"{info.path}: a text model is judged only where TensorFlow is installed; save it as saved_model.pb"
    from google.protobuf import text_format  # noqa: PLC0415
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415

    message = saved_model_pb2.SavedModel()
    try:
        text_format.Parse(storage.read(f"{listing.name}/{info.path}", 0, info.size, info.etag), message)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        return f"{info.path}: {info.size} bytes that are not a whole SavedModel ({error})"
    data = message.SerializeToString()
    try:
        return needs(lambda start, end: data[start:end], len(data))
    except WireError as error:
        return f"{info.path}: not a whole SavedModel ({error})"


def _mix_faults(storage: Storage, listing: VersionListing, info: ObjectInfo) -> Iterator[str]:
    from loader.mixing.declaration import MAX_BYTES, parse_mix  # noqa: PLC0415  few models are mixes

    try:
        parse_mix(storage.read(f"{listing.name}/{info.path}", 0, min(info.size, MAX_BYTES + 1), info.etag))
    except ServingError as error:
        if error.code is not Code.INVALID_ARGUMENT:
            raise
        yield error.message


def _variable_faults(
    storage: Storage, listing: VersionListing, files: Mapping[str, ObjectInfo], wanted: Needs
) -> Iterator[str]:
    prefix = "variables/variables"
    info = files.get(f"{prefix}.index")
    if info is None:
        shards = any(path.startswith(f"{prefix}.data-") for path in files)
        if wanted.variables or shards:
            yield f"{prefix}.index: not there, but {'its shards are' if shards else 'saved_model.pb has variables'}"
        return
    if info.size > bundle_index.MAX_INDEX_BYTES:
        yield f"{info.path}: {info.size} bytes, at most {bundle_index.MAX_INDEX_BYTES} are read"
        return
    try:
        sizes = bundle_index.shard_sizes(storage.read(f"{listing.name}/{info.path}", 0, info.size, info.etag))
    except bundle_index.BundleIndexError as error:
        yield f"{info.path}: {info.size} bytes that are not a whole index ({error})"
        return
    for shard, least in enumerate(sizes):
        name = bundle_index.shard_name(prefix, shard, len(sizes))
        if name not in files:
            yield f"{name}: not there, {least} bytes wanted"
        elif files[name].size < least:
            yield f"{name}: {files[name].size} of {least} bytes"


def _manifest_faults(storage: Storage, listing: VersionListing, files: Mapping[str, ObjectInfo]) -> Iterator[str]:
    try:
        entries = read_manifest(storage, listing)
    except manifest.ManifestError as error:
        yield f"{manifest.NAME}: {error}"
        return
    for path, entry in entries.items():
        info = files.get(path)
        if info is None:
            yield f"{object_name.shown(path)}: not there, but {manifest.NAME} names it"
        elif entry.size is not None and info.size != entry.size:
            yield f"{object_name.shown(path)}: {info.size} of {entry.size} bytes"
        elif entry.sha256 is not None and storage.local is not None:
            found = _sha256(storage, f"{listing.name}/{path}", info.size)
            if found != entry.sha256:
                yield f"{object_name.shown(path)}: sha256 {found}, {manifest.NAME} says {entry.sha256}"


def _sha256(storage: Storage, path: str, size: int) -> str:
    digest = hashlib.sha256()
    for start in range(0, size, DIGEST_CHUNK_BYTES):
        digest.update(storage.view(path, start, min(size, start + DIGEST_CHUNK_BYTES)))
    return digest.hexdigest()


def _archive_faults(storage: Storage, listing: VersionListing) -> Iterator[str]:
    """What can be seen of an archive's end without reading all of it: cut-off archives lack their last bytes.

    A compressed tar says nothing at its end. A local one is inflated once; from a remote store it is taken as it is
    (object stores and `hdfs dfs -put` show a file only when it is whole), and unpacking finds out.
    """
    (info,) = listing.files
    path, size = listing.name, info.size
    if size == 0:
        yield f"{path}: empty"
    elif path.endswith(".zip"):
        if _ZIP_END not in storage.read(path, max(0, size - _ZIP_END_BYTES), size, info.etag):
            yield f"{path}: {size} bytes without the end of a zip archive"
    elif path.endswith(".tar"):
        tail = storage.read(path, max(0, size - _TAR_BLOCK), size, info.etag)
        if size % _TAR_BLOCK or any(tail):
            yield f"{path}: {size} bytes without the end of a tar archive"
    elif storage.read(path, 0, 2, info.etag) != b"\x1f\x8b":
        yield f"{path}: not compressed by gzip"
    elif storage.local is not None:
        try:
            with gzip.open(os.fspath(storage.local / path)) as file:
                while file.read(DIGEST_CHUNK_BYTES):
                    pass
        except (EOFError, OSError, zlib.error) as error:
            yield f"{path}: {size} bytes that are not a whole gzip file ({error})"
