"""The record of the request that is being answered, where somebody wants one.

    access = current.get()
    if access is not None:
        access.version = version

`current` holds None unless somebody has asked (`functions.observing.access_door`): then this is all that a request
pays. What a record is, `functions.observing.access` says, which is imported where somebody asks: a cold start does not
pay for it.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functions.observing.access import Access
    from loader.servable import ModelSpec
    from loader.status import Code

current: ContextVar["Access | None"] = ContextVar("access", default=None)
"""The record of the request that this context answers; None where nobody wants one."""


def note_asked(api: str, spec: "ModelSpec") -> None:
    """`Access.asks`, where there is a record."""
    access = current.get()
    if access is not None:
        access.asks(api, spec)


def note_failed(code: "Code", text: str) -> None:
    """`Access.failed`, where there is a record."""
    access = current.get()
    if access is not None:
        access.failed(code, text)


def note_peer(tag: str) -> None:
    """Another revision has answered, of this tag."""
    access = current.get()
    if access is not None:
        access.peer = tag
