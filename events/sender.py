"""Who may knock: a shared secret, or a token that an issuer signed for us. Safe from any thread.

A store's webhook carries the secret in `Authorization`: MinIO's auth token and most others as `Bearer SECRET`, Amazon
SNS as the password of `https://user:SECRET@host/`. Knative's sources, brokers and triggers carry an OIDC token of
their service account, Google's Pub/Sub one of its own. Nothing secret is taken from a URL, which logs show.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence

from events.oidc import Oidc, TokenError

MAX_AUTHORIZATION = 16 << 10
"""Characters of the header `Authorization`."""

MIN_SECRET = 16
"""Characters of a shared secret; a shorter one can be guessed."""

MAX_SECRETS = 16
"""Secrets that are taken at a time: the old and the new one while they change."""


class SenderError(Exception):
    """The sender may not; sending the same again does not help.

    Attributes:
        status: 401 where nothing says who it is, else 403.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Senders:
    """Decides by a request's headers.

    Args:
        secrets: the shared secrets of now; each call asks again, so that they can be changed while we run.
        oidc: checks tokens; None takes none.
        anonymous: let everybody in who reaches us; for doors that only the cluster reaches.
    """

    def __init__(self, secrets: Callable[[], Sequence[str]], oidc: Oidc | None, *, anonymous: bool) -> None:
        self._secrets = secrets
        self._oidc = oidc
        self._anonymous = anonymous

    def check(self, headers: Mapping[str, str]) -> None:
        """Returns where the sender may; blocks while an issuer's keys are fetched.

        Raises:
            SenderError: it may not.
            IssuerError: nobody can say now.
        """
        if self._anonymous:
            return
        header = headers.get("authorization", "")
        if not header:
            raise SenderError(401, "this door takes events only with a secret or a token in the header Authorization")
        if len(header) > MAX_AUTHORIZATION:
            raise SenderError(403, "the header Authorization is too long")
        shown = _credential(header)
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
        if any(hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest()) for secret in self._secrets()):
            return
        if self._oidc is None or shown.count(".") != 2:
            raise SenderError(403, "the header Authorization holds another secret than the one that is wanted")
        try:
            self._oidc.check(shown)
        except TokenError as error:
            raise SenderError(403, f"the token is not taken: {error}") from None


def parse_secrets(text: str) -> tuple[str, ...]:
    """The secrets of a file, one on each line.

    Raises:
        ValueError: one is too short, or there are too many.
    """
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(found) > MAX_SECRETS:
        raise ValueError(f"{len(found)} secrets, at most {MAX_SECRETS} are taken")
    for number, secret in enumerate(found, 1):
        if len(secret) < MIN_SECRET:
            raise ValueError(f"secret {number} has {len(secret)} characters, wanted {MIN_SECRET} or more")
    return found


def _credential(header: str) -> str:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return ""
        return decoded.partition(":")[2]
    return header.strip()
