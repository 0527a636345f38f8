"""Which files are meant, and where their results go."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from functions.batch_jobs.input_file import InputFile
from loader import object_name
from loader.status import Code, ServingError
from loader.storage import open_storage
from loader.store import ObjectInfo, shown_host

MAX_INPUTS = 10_000
"""Files of one job."""

MAX_URL = 2048
"""Characters of an input's or output's URL."""

RESULTS = ".predictions"
"""Ends the name of a folder of results where nobody names it; no folder's files include those of such a one."""

_WILD = set("*?[")


def checked_url(url: str) -> str:
    """A URL of an input or output as users and events may write it.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    path = url.partition("://")[2] if "://" in url else url
    if not url or len(url) > MAX_URL or not url.isprintable():
        raise ServingError(Code.INVALID_ARGUMENT, f"{url[:80]!r} is no URL of 1 to {MAX_URL} printable characters")
    if "://" in url and {".", ".."} & set(path.split("/")):
        raise ServingError(Code.INVALID_ARGUMENT, f"{url!r} leaves its folder: name the folder that is meant")
    return url


def absolute(url: str) -> str:
    """A plain path as one that stands on the working directory; a URL stays as it is."""
    if "://" in url:
        return url
    return str(Path(url).absolute()) + ("/" if url.endswith("/") else "")


def split(url: str) -> tuple[str, str]:
    """The folder and the name: `s3://bucket/in` and `x.csv`."""
    folder, slash, name = url.rpartition("/")
    if not slash:
        return ".", url
    return folder or "/", name


def find_inputs(urls: Sequence[str]) -> list[InputFile]:
    """The files that are meant, in the order of the URLs, those of a folder or a pattern in the order of names.

    A URL is one file, a folder (all files in it and below, hidden ones left out), or a pattern: `s3://bucket/in/*.csv`.

    Raises:
        ServingError: INVALID_ARGUMENT or NOT_FOUND, naming the URL; what storage raises.
    """
    found: list[InputFile] = []
    for url in urls:
        found.extend(_matching(absolute(checked_url(url))))
        if len(found) > MAX_INPUTS:
            raise ServingError(Code.INVALID_ARGUMENT, f"more than {MAX_INPUTS} files: give them to several jobs")
    seen: set[str] = set()
    for one in found:
        if one.url in seen:
            raise ServingError(Code.INVALID_ARGUMENT, f"{one.url} is named twice")
        seen.add(one.url)
    return found


def _matching(url: str) -> list[InputFile]:
    folder, name = split(url)
    if name:
        try:
            storage = open_storage(folder)
            return [InputFile(storage, name, _sized(storage.info(name), url))]
        except FileNotFoundError:
            pass
    base, pattern = _pattern(url)
    storage = open_storage(base)
    try:
        listed = storage.walk()
    except FileNotFoundError:
        listed = []
    files = [
        InputFile(storage, info.path, _sized(info, url))
        for info in listed
        if not info.path.endswith("/") and _is_wanted(info.path, pattern)
    ]
    if not files:
        raise ServingError(Code.NOT_FOUND, f"no file at {shown_host(url)}: wanted a file, a folder with files, or *")
    faults = object_name.faults(one.name for one in files)
    if faults:
        raise ServingError(Code.INVALID_ARGUMENT, f"{shown_host(base)}: {faults[0]}")
    return files


def _pattern(url: str) -> tuple[str, str]:
    """The folder to list, and the pattern below it; `**` for all."""
    scheme, mark, path = url.rpartition("://")
    parts = path.rstrip("/").split("/")
    for at, part in enumerate(parts):
        if _WILD & set(part):
            return (scheme + mark + "/".join(parts[:at])) or ("/" if url.startswith("/") else "."), "/".join(parts[at:])
    return url.rstrip("/") or "/", "**"


def _is_wanted(path: str, pattern: str) -> bool:
    parts = path.split("/")
    # As Hadoop's and Spark's readers do: what begins with one of these is no data.
    if any(part.startswith(("_", ".")) for part in parts) or any(part.endswith(RESULTS) for part in parts[:-1]):
        return False
    if pattern == "**":
        return True
    wanted = pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _sized(info: ObjectInfo, url: str) -> ObjectInfo:
    if info.size < 0:
        raise ServingError(Code.FAILED_PRECONDITION, f"{shown_host(url)}: its store does not say how large it is")
    return info


def output_beside(urls: Sequence[str]) -> str:
    """Where results go if nobody says it: beside the input, `s3://bucket/in/x.csv.predictions`.

    Raises:
        ServingError: INVALID_ARGUMENT: inputs of several places.
    """
    bases = {_pattern(absolute(url))[0].rstrip("/") for url in urls}
    if len(bases) == 1:
        return bases.pop() + RESULTS
    folders = {split(base)[0] for base in bases}
    if len(folders) == 1:
        return folders.pop().rstrip("/") + RESULTS
    raise ServingError(Code.INVALID_ARGUMENT, "inputs of several folders: say where the results go (--output=URL)")


def check_output(output: str, urls: Sequence[str], files: Sequence[InputFile]) -> None:
    """Refuses an output that holds inputs, or lies among them.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    place = _real(output)
    for file in files:
        if _is_below(_real(file.url), place):
            raise ServingError(Code.INVALID_ARGUMENT, f"{output} holds the input {file.url}: name another --output")
    for url in urls:
        base = _real(_pattern(absolute(url))[0])
        if place != base + RESULTS and _is_below(place, base) and not Path(place).name.endswith(RESULTS):
            raise ServingError(
                Code.INVALID_ARGUMENT, f"{output} lies in the input {url}: the next run would read it; another --output"
            )


def _real(url: str) -> str:
    local = open_storage(url).local
    return shown_host(url).rstrip("/") if local is None else str(local.resolve())


def _is_below(place: str, folder: str) -> bool:
    return (place + "/").startswith(folder.rstrip("/") + "/")
