"""Fields of `mix.json`, and what is said about one that is wrong."""

from typing import Any

from loader.mixing.mix_file import NAME
from loader.status import Code, ServingError


def read_object(where: str, found: Any, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object with these fields and no others."""
    if not isinstance(found, dict):
        raise wrong(where, f"wanted an object with {', '.join(required)}")
    unknown = min(found.keys() - {*required, *optional}, default=None)
    if unknown is not None:
        raise wrong(where, f"unknown field {unknown[:40]!r}, wanted {', '.join(dict.fromkeys((*required, *optional)))}")
    lacking = next((name for name in required if name not in found), None)
    if lacking is not None:
        raise wrong(where, f"{lacking!r} is not there")
    return found


def wrong(where: str, why: str) -> ServingError:
    """What is wrong with `mix.json`, and where: `steps.large.when`."""
    return ServingError(Code.INVALID_ARGUMENT, f"{NAME}: {where}: {why}" if where else f"{NAME}: {why}")
