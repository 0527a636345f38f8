"""The id that joins an outcome to an answer, whoever gets it: all that has to be known is in the id itself.

    <request id>!<model>!<version>!<seconds since 1970, hexadecimal>[!<seal>]

A pod may be gone when the outcome comes, and another version's pod may get it: so nothing is remembered. With secrets
the id is sealed, and one that was not made by a server with one of them is refused.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from functions.observing.access import request_id
from loader.status import Code, ServingError

MAX_ID = 1024
"""Characters of an id."""

MAX_MODEL = 256
"""Characters of a model's name in an id, as written there."""

SLACK_SECONDS = 300
"""By how much clocks of pods may differ."""

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_TIME = re.compile(r"[0-9a-f]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an id says.

    Attributes:
        request_id: of the request.
        model: that answered; empty for a bare request id, which tells no more.
        version: that answered.
        unix_seconds: when.
    """

    request_id: str
    model: str = ""
    version: int = 0
    unix_seconds: int = 0


@dataclass(frozen=True, slots=True)
class FeedbackIds:
    """Makes and reads ids. Pure.

    Attributes:
        secrets: the first seals, all are taken; none: ids have no seal.
        max_age: seconds within which an id is taken.
    """

    secrets: Sequence[str]
    max_age: int

    def make(self, answer: Answer) -> str:
        """The id of an answer."""
        text = f"{answer.request_id}!{quote(answer.model, safe='')}!{answer.version}!{answer.unix_seconds:x}"
        return f"{text}!{_seal(text, self.secrets[0])}" if self.secrets else text

    def read(self, text: str, now: float) -> Answer:
        """What an id says; a bare request id where ids have no seal.

        Raises:
            ServingError: INVALID_ARGUMENT for what is no id; PERMISSION_DENIED for a seal that none of the secrets
                made; FAILED_PRECONDITION for one that is too old.
        """
        parts = text.split("!")
        if len(text) > MAX_ID or not text.isascii():
            raise _no_id()
        if self.secrets:
            signed, _, seal = text.rpartition("!")
            if not any(hmac.compare_digest(_seal(signed, secret), seal) for secret in self.secrets):
                raise ServingError(
                    Code.PERMISSION_DENIED, "request_id: not an x-feedback-id of this service (or of an older secret)"
                )
            parts = parts[:-1]
        if request_id(parts[0].encode()) != parts[0]:
            raise _no_id()
        if len(parts) == 1:
            return Answer(parts[0])
        if len(parts) != 4 or not parts[1] or len(parts[1]) > MAX_MODEL:
            raise _no_id()
        if _NUMBER.fullmatch(parts[2]) is None or _TIME.fullmatch(parts[3]) is None or int(parts[2]) >= 1 << 63:
            raise _no_id()
        answer = Answer(parts[0], unquote(parts[1]), int(parts[2]), int(parts[3], 16))
        age = now - answer.unix_seconds
        if not -SLACK_SECONDS <= age <= self.max_age:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"request_id: of an answer {age:.0f} s ago, taken are outcomes within {self.max_age} s "
                "(--feedback_max_age_seconds)",
            )
        return answer


def _seal(text: str, secret: str) -> str:
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:18]).decode("ascii")


def _no_id() -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, "request_id: wanted the x-feedback-id or the x-request-id of an answer")
