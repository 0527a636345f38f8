"""The words for which versions are wanted: `latest:2`, `all`, `specific:1,4`. Pure."""

from knative.error import DeployError
from loader.policy import All, Latest, Specific, VersionPolicy

MAX_VERSIONS = 1000
"""Numbers that `specific` may name."""

_MAX_DIGITS = 19


def parse_version_policy(text: str) -> VersionPolicy:
    """The policy that the words say.

    Raises:
        DeployError: they say none.
    """
    kind, _, argument = text.partition(":")
    if kind == "all" and not argument:
        return All()
    if kind == "latest" and (not argument or (_is_number(argument) and int(argument))):
        return Latest(int(argument or 1))
    numbers = argument.split(",")
    if kind == "specific" and len(numbers) <= MAX_VERSIONS and all(map(_is_number, numbers)):
        return Specific(frozenset(map(int, numbers)))
    raise DeployError(f"versions {text[:80]!r}: wanted latest:N, all or specific:1,4")


def version_policy_text(policy: VersionPolicy) -> str:
    """The words that `parse_version_policy` reads."""
    match policy:
        case Latest(count):
            return f"latest:{max(count, 1)}"
        case All():
            return "all"
        case Specific(versions):
            return "specific:" + ",".join(map(str, sorted(versions)))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
