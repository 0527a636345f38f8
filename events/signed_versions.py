"""Versions that have to be signed: their signature belongs to what makes them complete, and is verified once.

A version without its `model.sig` is not complete yet: the file may come last. One whose signature does not hold is
refused: it gets no revision, and what is served stays.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from knative.error import DeployError
from loader.signed_files import awaited, check_stored
from loader.signed_model import SigningKeys
from loader.storage import Storage, VersionListing

MAX_VERDICTS = 4096
"""Versions whose verdict is kept: verifying one reads every byte of it."""

Missing = Callable[[Storage, VersionListing], list[str]]
"""See `events.aspired.Missing`."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A version whose signature does not hold.

    Attributes:
        fingerprint: of its files.
        why: in words.
    """

    fingerprint: str
    why: str


class Verdicts:
    """What became of versions that were verified, by their bytes and the keys. Safe from any thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], str] = OrderedDict()

    def of(self, storage: Storage, listing: VersionListing, pem: str, keys: SigningKeys) -> Refused | None:
        """None for a version whose signature holds. Errors as `loader.signed_files.check_stored`."""
        name = listing.fingerprint, hashlib.sha256(pem.encode()).hexdigest()
        why = self._kept.get(name)
        if why is None:
            why = check_stored(storage, listing, keys)
            self._kept[name] = why
            while len(self._kept) > MAX_VERDICTS:
                self._kept.popitem(last=False)
        return Refused(listing.fingerprint, why) if why else None


class SignedMissing:
    """A proof of completeness (`Missing`) that wants a good signature too. Belongs to one look.

    Args:
        missing: the proof without.
        pem: the keys that are trusted.
        verdicts: of earlier looks.

    Attributes:
        refused: by version, those whose signature does not hold.

    Raises:
        DeployError: the keys are none.
    """

    def __init__(self, missing: Missing, pem: str, verdicts: Verdicts) -> None:
        try:
            self._keys = SigningKeys(pem)
        except ValueError as error:
            raise DeployError(f"deployment.signing_keys: {error}; zeroserve declare --signing-key=FILE") from None
        self._missing = missing
        self._pem = pem
        self._verdicts = verdicts
        self.refused: dict[int, Refused] = {}

    def __call__(self, storage: Storage, listing: VersionListing) -> list[str]:
        """What the version lacks, its signature included. Errors as `loader.completeness.missing`."""
        lacks = self._missing(storage, listing) + awaited(listing)
        if lacks:
            return lacks
        try:
            refused = self._verdicts.of(storage, listing, self._pem, self._keys)
        except FileNotFoundError as error:
            return [f"{error}: gone while it was looked at"]
        if refused is None:
            return []
        self.refused[listing.version] = refused
        return [refused.why]
