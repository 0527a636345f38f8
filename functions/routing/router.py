"""Who answers a request: this process, or the revision of another version. No input and output, no protocol.

    named version or label -> its revision; else the user's arm, where the routes say so; else here

A request that was forwarded once is answered where it is: two revisions that disagree about the routes, while a file is
being replaced, must not play ball with it.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from functions.routing.arm import choose_arm
from functions.routing.peer_address import PeerAddress
from functions.routing.table import Routes, UserKey
from functions.routing.tag import label_tag, version_tag


class Why(enum.Enum):
    """What decided."""

    FIXED = "fixed"
    """The request names a version or label, came by a tag's own address, or was forwarded."""

    USER = "user"
    """The arm of its user."""

    ARRIVED = "arrived"
    """Nothing: it is answered where it arrived."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Who answers.

    Attributes:
        tag: of the revision.
        here: whether that is this process.
        why: what decided.
        version: what the label of the request stands for, where this process is to answer a label; else None.
    """

    tag: str
    here: bool
    why: Why
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says, in whatever protocol.

    Attributes:
        name: of the model.
        version, label: at most one is not None.
        forwarded: another revision has sent it here.
        host: of the `Host` header or `:authority`.
        by_tag_header: Knative's tag header chose this revision.
        predicts: whether it asks for a prediction; only such requests belong to a user.
        key: finds the user's key.
    """

    name: str
    version: int | None
    label: str | None
    forwarded: bool
    host: str
    by_tag_header: bool
    predicts: bool
    key: Callable[[UserKey], bytes | None]


class Router:
    """Decides for one revision. Used on the event loop's thread only.

    Attributes:
        tag: of this revision.

    Args:
        model: the name of the one model.
        version: the one version that this process serves.
        address: where the others are.
        routes: those in force.
    """

    def __init__(self, model: str, version: int, address: PeerAddress, routes: Callable[[], Routes]) -> None:
        self._model = model
        self._version = version
        self._address = address
        self._routes = routes
        self.tag = version_tag(version)
        self._here = Decision(self.tag, True, Why.FIXED)
        self._arrived = Decision(self.tag, True, Why.ARRIVED)

    @property
    def routes(self) -> Routes:
        """Those in force."""
        return self._routes()

    def decide(self, asked: Asked) -> Decision:
        """Who answers."""
        if asked.name != self._model or not asked.name:
            return self._here
        if asked.version is not None:
            return self._of_version(asked.version, forwarded=asked.forwarded)
        if asked.label is not None:
            return self._of_label(asked.label, asked)
        if asked.forwarded or asked.by_tag_header or self._address.tag_of(asked.host) is not None:
            return self._here
        if not asked.predicts:
            return self._here
        return self._of_user(asked.key)

    def _of_version(self, version: int, *, forwarded: bool) -> Decision:
        tag = version_tag(version)
        if forwarded or version == self._version or version < 0 or not self._address.fits(tag):
            return self._here
        return Decision(tag, False, Why.FIXED)

    def _of_label(self, label: str, asked: Asked) -> Decision:
        tag = label_tag(label)
        if tag is None or not self._address.fits(tag):
            return self._here
        if self._routes().labels.get(label) == self.tag or self._address.tag_of(asked.host) == tag:
            # The label's own address led here: the cluster knows better than a file that is yet to come.
            return Decision(self.tag, True, Why.FIXED, self._version)
        if asked.forwarded:
            return self._here
        return Decision(tag, False, Why.FIXED)

    def _of_user(self, find: Callable[[UserKey], bytes | None]) -> Decision:
        routes = self._routes()
        if routes.key is None or not routes.arms:
            return self._arrived
        key = find(routes.key)
        if key is None:
            return self._arrived
        tag = choose_arm(routes.arms, key)
        if tag == self.tag:
            return Decision(tag, True, Why.USER)
        return Decision(tag, False, Why.USER) if self._address.fits(tag) else self._arrived
