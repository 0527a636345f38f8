"""Who answers: a server that speaks one of our protocols, or a model in this process."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from functions.client import Client
from functions.client.signature_choice import choose
from loader import completeness
from loader.cache import ModelCache
from loader.cpu import cpu_count
from loader.dtypes import Array
from loader.format import format_of
from loader.inference import predict_call
from loader.mixing import mix_file
from loader.servable import ModelSpec
from loader.signature import Signature
from loader.status import Code, ServingError
from loader.storage import Storage, VersionListing, open_storage, version_number
from loader.store import shown_host

CACHE_FOLDER = "zeroserve-batch"
"""Below the system's temporary folder: where fetched models lie, for the next run too."""

ATTEMPTS = 1000
"""Tries of one batch: the time for it ends them, not their number."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said to one batch.

    Attributes:
        outputs: by alias.
        version: of the model; None where the protocol does not say.
    """

    outputs: Mapping[str, Array]
    version: int | None


class Predictor(Protocol):
    """Safe from any thread."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    @property
    def version(self) -> int | None:
        """The version that answers, where that is settled before the first row."""
        ...

    def predict(self, inputs: Mapping[str, Array]) -> Answer:
        """One batch. Raises ServingError."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Which model of which server.

    Attributes:
        target: as `Client` takes it.
        model: the model's name, version and label.
    """

    target: str
    model: ModelSpec

    @property
    def shown(self) -> str:
        """For people and checkpoints: without credentials."""
        where = self.model.version if self.model.version is not None else self.model.label
        return f"{shown_host(self.target)} {self.model.name}" + (f"@{where}" if where is not None else "")


def server_address(url: str, name: str, version: int | None, label: str | None, *, grpc: bool) -> ServerAddress:
    """What `--url` means: `HOST:PORT`, or a URL that may end in `/v1/models/NAME[/versions/3|/labels/stable]`.

    Raises:
        ServingError: INVALID_ARGUMENT: it does not say which model, or says two.
    """
    parts = urlsplit(url if "://" in url else f"//{url}")
    base, mark, rest = parts.path.partition("/v1/models/")
    words = [unquote(word) for word in rest.partition(":")[0].strip("/").split("/")] if mark else []
    if words and words[0]:
        if name not in ("", words[0]):
            raise _invalid(f"--url names the model {words[0]!r} and --name {name!r}: leave out one")
        name = words[0]
        if len(words) == 3 and words[1] == "versions" and words[2].isdecimal():
            version = int(words[2]) if version is None else version
        elif len(words) == 3 and words[1] == "labels":
            label = words[2] if label is None else label
        elif len(words) != 1:
            raise _invalid(f"--url={shown_host(url)}: wanted /v1/models/NAME[/versions/N|/labels/L]")
    if not name:
        raise _invalid(f"--url={shown_host(url)} does not say which model: --name=NAME, or a URL with /v1/models/NAME")
    if version is not None and label is not None:
        raise _invalid("a version and a label: wanted one of them")
    netloc = parts.netloc
    if grpc and parts.scheme in {"http", "https"} and parts.port is None:
        netloc += ":443" if parts.scheme == "https" else ":80"  # gRPC's own default is 443 for both
    target = parts._replace(netloc=netloc, path=base, query="", fragment="").geturl()
    return ServerAddress(target.removeprefix("//"), ModelSpec(name, version, label))


class ServerPredictor:
    """A server. It is asked again, with growing pauses, for as long as it is away or full and `timeout` is not over.

    Args:
        address: which model of which server.
        signature: its name; empty for the default one.
        outputs: aliases of those wanted; empty for all.
        protocol: see `Client`.
        timeout: seconds for one batch with all tries.
        headers: sent with every request.
        root_certificates: PEM of the authorities to trust.

    Raises:
        ServingError: the model's metadata cannot be read.
    """

    version: int | None = None

    def __init__(
        self,
        address: ServerAddress,
        signature: str,
        outputs: Sequence[str],
        *,
        protocol: str | None,
        timeout: float,
        headers: Mapping[str, str],
        root_certificates: bytes | None,
    ) -> None:
        self._model, self._name, self._outputs = address.model, signature, tuple(outputs)
        self._client = Client(
            address.target,
            protocol=protocol,
            timeout=timeout,
            attempts=ATTEMPTS,
            headers=headers,
            root_certificates=root_certificates,
        )
        self._shown = address.shown
        try:
            self.signature = self._client.signature(
                self._model.name, version=self._model.version, label=self._model.label, signature=signature
            )
        except ServingError as error:
            self._client.close()
            raise self._named(error) from error

    def predict(self, inputs: Mapping[str, Array]) -> Answer:
        """See `Predictor.predict`."""
        model = self._model
        try:
            found = self._client.predict(
                model.name,
                inputs,
                version=model.version,
                label=model.label,
                signature=self._name,
                outputs=self._outputs,
            )
        except ServingError as error:
            raise self._named(error) from error
        return Answer(found.outputs, found.version)

    def _named(self, error: ServingError) -> ServingError:
        return ServingError(error.code, f"{self._shown}: {error.message}")

    def close(self) -> None:
        """Ends its connections."""
        self._client.close()


class ModelPredictor:
    """A model loaded here, once.

    Args:
        url: a version's folder or archive, or the folder of its versions (the highest complete one is taken).
        version: the version that is wanted; None for the highest.
        signature: its name; empty for the default one.
        outputs: aliases of those wanted; empty for all.

    Raises:
        ServingError: there is none, or it does not load.
    """

    def __init__(self, url: str, version: int | None, signature: str, outputs: Sequence[str]) -> None:
        storage, listing = _version(url, version)
        self.version: int | None = listing.version
        self._cache = ModelCache(Path(tempfile.gettempdir()) / CACHE_FOLDER, private=True)
        self._path = self._cache.fetch(storage, listing)
        try:
            file = format_of(self._path)
            if mix_file.is_mix(self._path):
                raise ServingError(
                    Code.FAILED_PRECONDITION, f"{listing.url} is a mix of models, which a server runs: --url=HOST:PORT"
                )
            if file:
                from loader.format_model import load as load_format  # noqa: PLC0415  SavedModels do not need it

                self._model = load_format(self._path, file, cpu_count())
            else:
                # A batch job through a server does not need TensorFlow's library.
                from loader import saved_model  # noqa: PLC0415
                from loader.session import SessionOptions  # noqa: PLC0415

                self._model = saved_model.load(self._path, SessionOptions())
        except BaseException:
            self._cache.release(self._path)
            raise
        try:
            self.signature = choose(self._model.signatures, signature)
        except BaseException:
            self.close()
            raise
        self._outputs = tuple(outputs)

    def predict(self, inputs: Mapping[str, Array]) -> Answer:
        """See `Predictor.predict`."""
        call = predict_call(self._model, self.signature.name, inputs, self._outputs)
        arrays = self._model.session.run(call.feeds, call.fetches)
        return Answer(call.finish(arrays).outputs, self.version)

    def close(self) -> None:
        """Unloads the model."""
        self._model.session.close()
        self._cache.release(self._path)


def _version(url: str, version: int | None) -> tuple[Storage, VersionListing]:
    """The version that is meant. Raises ServingError NOT_FOUND."""
    url = url.rstrip("/") or "/"
    base, _, name = url.rpartition("/")
    places = [(url, "")]
    if version_number(name.partition(".")[0]) is not None:
        places.append((base or "/", name))
    found: dict[int, VersionListing] = {}
    for place, only in places:
        storage = open_storage(place)
        with contextlib.suppress(FileNotFoundError):
            found = {number: one for number, one in storage.list_versions().items() if only in ("", one.name)}
        if found:
            break
    wanted = [version] if version is not None else sorted(found, reverse=True)
    lacking = ""
    for number in wanted:
        if number in found:
            faults = completeness.missing(storage, found[number])
            if not faults:
                return storage, found[number]
            lacking = f"; version {number} is not complete: {faults[0]}"
    there = ", ".join(map(str, sorted(found))) or "none"
    raise ServingError(
        Code.NOT_FOUND,
        f"no {'version' if version is None else f'version {version}'} of a model at {shown_host(url)}: found {there}"
        f"{lacking}; wanted a version's folder or the folder of versions",
    )


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
