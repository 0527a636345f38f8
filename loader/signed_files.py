"""Whether the files of a version are those that its `model.sig` vouches for, all of them and no others.

A server that has keys waits for the signature (`awaited`), as the last file of an upload, and checks the very files
that it loads (`check_folder`); so nothing that changes in storage afterwards is served. The deploy function checks what
lies in storage before it makes a revision (`check_stored`), so that nothing is started in vain.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from loader import completeness, manifest, object_name, signed_model
from loader.signed_model import SignatureError, SigningKeys, signed_files
from loader.status import Code, ServingError
from loader.storage import Storage, VersionListing

CHUNK_BYTES = 4 << 20
"""Bytes of a file that are in memory at a time."""

UNCOVERED = frozenset({signed_model.NAME, manifest.NAME})
"""Files beside what is signed: the signature itself; and the uploader's manifest, which can only find fault."""

_GIT = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
"""What `model_signing` leaves out unless told otherwise, and nothing here reads. Source: its `_cli.py`."""

_HASHLIB = {"sha256": "sha256", "blake2": "blake2b"}

Read = Callable[[str, int, int], bytes | memoryview]
"""Bytes of a file: path, start, one past the end."""


def awaited(listing: VersionListing) -> list[str]:
    """What a version lacks to be verified, in words; empty when its signature is there. An archive has it inside."""
    there = listing.archive is not None or any(info.path == signed_model.NAME for info in listing.files)
    return [] if there else [f"{signed_model.NAME}: not there, and only signed versions are taken"]


def missing(storage: Storage, listing: VersionListing) -> list[str]:
    """As `loader.completeness.missing`, with the signature among what makes a version complete."""
    return completeness.missing(storage, listing) + awaited(listing)


def check_folder(folder: Path, keys: SigningKeys) -> None:
    """Checks a version on this machine, unpacked. Blocks: every byte is read.

    Raises:
        ServingError: FAILED_PRECONDITION: it is not signed by one of the keys, or not what was signed.
        OSError: it cannot be read.
    """

    def read(path: str, start: int, end: int) -> bytes:
        with (folder / path).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    try:
        _check(_sizes(folder), read, keys)
    except SignatureError as error:
        raise ServingError(Code.FAILED_PRECONDITION, str(error)) from None


def check_stored(storage: Storage, listing: VersionListing, keys: SigningKeys) -> str:
    """Why a version in storage is not to be deployed; empty when it is. Blocks: every byte is read.

    An archive is not read: who loads it checks what it unpacks.

    Raises:
        FileNotFoundError: a file went away meanwhile.
        ServingError: storage cannot be asked; nothing is known then.
    """
    if listing.archive is not None:
        return ""
    infos = {info.path: info for info in listing.files}

    def read(path: str, start: int, end: int) -> memoryview:
        return storage.view(f"{listing.name}/{path}", start, end, infos[path].etag)

    try:
        _check({path: info.size for path, info in infos.items()}, read, keys)
    except SignatureError as error:
        return str(error)
    return ""


def _sizes(folder: Path) -> dict[str, int]:
    sizes = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir():
            sizes[name] = path.stat().st_size
        elif path.is_symlink():
            raise SignatureError(f"{object_name.shown(name)}: a link to a folder, whose files nobody signs")
    return sizes


def _check(sizes: dict[str, int], read: Read, keys: SigningKeys) -> None:
    size = sizes.get(signed_model.NAME)
    if size is None:
        raise SignatureError(f"{signed_model.NAME}: not there")
    if size > signed_model.MAX_BYTES:
        raise SignatureError(f"{signed_model.NAME}: {size} bytes, at most {signed_model.MAX_BYTES} are read")
    try:
        signed = signed_files(bytes(read(signed_model.NAME, 0, size)), keys)
    except SignatureError as error:
        raise SignatureError(f"{signed_model.NAME}: {error}") from None
    covered = {path for path in sizes if path not in UNCOVERED and path.partition("/")[0] not in _GIT}
    _none(covered - signed.keys(), "not signed")
    _none(signed.keys() - sizes.keys(), "signed, but not there")
    for path in sorted(covered):
        if _digest(sizes[path], path, read, signed[path].algorithm) != signed[path].digest:
            raise SignatureError(f"{object_name.shown(path)}: not what was signed")


def _none(paths: Iterable[str], what: str) -> None:
    """Raises for the first of some paths."""
    first = min(paths, default=None)
    if first is not None:
        raise SignatureError(f"{object_name.shown(first)}: {what}")


def _digest(size: int, path: str, read: Read, algorithm: str) -> bytes:
    digest = hashlib.new(_HASHLIB[algorithm])
    for start in range(0, size, CHUNK_BYTES):
        digest.update(read(path, start, min(size, start + CHUNK_BYTES)))
    return digest.digest()
