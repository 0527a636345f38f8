"""Which versions of a model are to be deployed, by what lies in storage, its policy, and what has landed already.

A version that landed stays in for as long as it is listed, whatever becomes of its files: somebody who rewrites a
version in place, file by file, must not take the running one down. Whether its new files make another revision is the
declaration's choice (`Overwritten`). Nothing is remembered between two looks but proofs of completeness.
"""

import enum
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loader import manifest
from loader.policy import VersionPolicy
from loader.status import ServingError
from loader.storage import Storage, VersionListing

SETTLED_SECONDS = 30.0
"""How long nothing of an overwritten version may change before it is taken for finished, where no manifest says so."""

Missing = Callable[[Storage, VersionListing], list[str]]
"""What a version lacks, in words; empty when it is complete. Raises ServingError where storage cannot be asked."""


class Overwritten(enum.Enum):
    """What happens when the files of a version that has landed change."""

    REFUSE = "refuse"
    """The version stays what it was: a number means one thing. New files belong into a new version."""

    REDEPLOY = "redeploy"
    """Once they are complete and settled, they make another revision of the same version, which takes its place."""


@dataclass(frozen=True, slots=True)
class Aspired:
    """What a look at storage found.

    Attributes:
        versions: number -> fingerprint, of those to be deployed.
        lacking: number -> what it lacks, of those that the policy wants and that are not complete yet.
        listed: every number in storage.
        notes: what the operator should know, in words.
    """

    versions: Mapping[int, str]
    lacking: Mapping[int, str]
    listed: frozenset[int]
    notes: tuple[str, ...] = ()


def aspired(
    storage: Storage,
    policy: VersionPolicy,
    landed: Mapping[int, str],
    missing: Missing,
    overwritten: Overwritten = Overwritten.REFUSE,
) -> Aspired:
    """Looks at storage once; it is listed anew, and never from a cache.

    Where the policy's choice is not complete, the next complete version takes its place.

    Args:
        storage: of the model.
        policy: which versions are wanted.
        landed: number -> fingerprint, of the versions that have a revision already.
        missing: proves versions complete.
        overwritten: see there.

    Raises:
        ServingError: storage cannot be listed; nothing is known then.
    """
    try:
        listed = storage.list_versions()
    except FileNotFoundError:
        listed = {}
    # A pod takes 0 for "the highest"; negative numbers have no revision name.
    candidates = {version for version in listed if version > 0}
    notes = [f"version {version} cannot be deployed: wanted 1 or more" for version in listed if version < 1]
    lacking: dict[int, str] = {}
    verdicts: dict[int, str] = {}

    def lacks(version: int) -> str:
        if version not in verdicts:
            verdicts[version] = "" if version in landed else "; ".join(missing(storage, listed[version]))
        return verdicts[version]

    while True:
        chosen = policy.choose(candidates)
        refused = {version: text for version in chosen if (text := lacks(version))}
        if not refused:
            break
        candidates.difference_update(refused)
        lacking |= refused
    versions = {}
    for version in chosen:
        listing = listed[version]
        versions[version] = fingerprint = landed.get(version, listing.fingerprint)
        if fingerprint == listing.fingerprint:
            continue
        if overwritten is Overwritten.REFUSE:
            notes.append(
                f"the files of version {version} changed after it landed: it stays what it was; upload a new one"
            )
        elif text := _unsettled(storage, listing, missing):
            notes.append(f"the files of version {version} change: {text}")
        else:
            versions[version] = listing.fingerprint
    return Aspired(versions, lacking, frozenset(listed), tuple(notes))


def _unsettled(storage: Storage, listing: VersionListing, missing: Missing) -> str:
    """Why the changed files of a version are not taken yet; empty when they are."""
    try:
        lacks = missing(storage, listing)
    except ServingError as error:
        return error.message
    if lacks:
        return "; ".join(lacks)
    if any(info.path == manifest.NAME for info in listing.files):
        return ""
    newest = max((info.mtime or 0.0 for info in listing.files), default=0.0)
    settled = time.time() - newest >= SETTLED_SECONDS
    return "" if settled else f"they are taken once nothing has changed for {SETTLED_SECONDS:.0f} s"
