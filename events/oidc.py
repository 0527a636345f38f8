"""Tokens of service accounts: signed by an issuer we know, meant for us, still valid. Safe from any thread.

In a cluster the issuer is the API server, which serves its keys to every service account; elsewhere it is any OpenID
issuer over HTTPS, such as Google's for Pub/Sub.

Source: RFC 7519, RFC 8725 (algorithms are ours to choose, never the token's); kubernetes.io/docs/tasks/
configure-pod-container/configure-service-account (issuer discovery).
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from knative.error import DeployError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key only: a token that is signed with a shared key, or not at all, is never taken."""

LEEWAY_SECONDS = 30
"""By which clocks may differ."""

KEYS_SECONDS = 3600.0
"""How long an issuer's keys are kept."""

REFRESH_SECONDS = 10.0
"""Keys are fetched again for a token with an unknown key, but no oftener than this."""


class TokenError(Exception):
    """Why a token is not taken, in one line."""


class IssuerError(Exception):
    """An issuer cannot be asked for its keys now: nothing is known about its tokens, and later it may be."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs.

    Attributes:
        name: what tokens call it (`iss`).
        keys: fetches its JSON Web Key Set; raises OSError, ValueError or DeployError where that fails.
    """

    name: str
    keys: Callable[[], Mapping[str, Any]]


class Oidc:
    """Checks tokens.

    Args:
        issuers: those we trust; fetched at the first token, so that a start waits for nobody.
        audience: what tokens must be meant for.
        subjects: patterns of who may, such as `system:serviceaccount:models:*`; `*` stands for anything.
    """

    def __init__(self, issuers: Callable[[], Sequence[Issuer]], audience: str, subjects: Sequence[str]) -> None:
        self._issuers = issuers
        self._audience = audience
        self._subjects = tuple(subjects)
        self._lock = threading.Lock()
        self._known: dict[str, Issuer] = {}
        self._keys: dict[str, tuple[float, Any]] = {}

    def check(self, token: str) -> str:
        """The token's subject; blocks while keys are fetched.

        Raises:
            TokenError: it is not taken.
            IssuerError: its issuer cannot be asked now.
        """
        from joserfc import jwt  # noqa: PLC0415  only who checks tokens pays for cryptography
        from joserfc.errors import InvalidKeyIdError, JoseError  # noqa: PLC0415

        issuer = self._issuer(_claims_unverified(token).get("iss"))
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer.name},
            aud={"essential": True, "value": self._audience},
            sub={"essential": True},
            exp={"essential": True},
        )
        keys, is_new = self._key_set(issuer, fresh=False)
        try:
            try:
                found = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
            except InvalidKeyIdError:
                if is_new:
                    raise
                keys, _ = self._key_set(issuer, fresh=True)
                found = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
            registry.validate(found.claims)
        except (JoseError, ValueError, TypeError, LookupError) as error:
            # A header of a strange shape breaks the package before it finds the shape wrong.
            raise TokenError(_words(error)) from None
        subject = str(found.claims["sub"])
        if not any(fnmatchcase(subject, pattern) for pattern in self._subjects):
            raise TokenError(f"subject {subject!r:.200} is not among those that may")
        return subject

    def _issuer(self, name: Any) -> Issuer:
        with self._lock:
            if not self._known:
                try:
                    self._known = {issuer.name: issuer for issuer in self._issuers()}
                except (OSError, ValueError, DeployError) as error:
                    raise IssuerError(f"the issuers of tokens cannot be asked: {error}") from None
            found = self._known.get(name) if isinstance(name, str) else None
        if found is None:
            raise TokenError(f"issuer {name!r:.200} is not one that is trusted")
        return found

    def _key_set(self, issuer: Issuer, *, fresh: bool) -> tuple[Any, bool]:
        """The issuer's keys, and whether they were fetched just now, or so lately that they are as good as new."""
        with self._lock:
            at, keys = self._keys.get(issuer.name, (0.0, None))
            age = time.monotonic() - at
            if keys is not None and age < (REFRESH_SECONDS if fresh else KEYS_SECONDS):
                return keys, fresh or age < REFRESH_SECONDS
            try:
                keys = _imported(issuer.keys())
            except (OSError, ValueError, DeployError) as error:
                raise IssuerError(f"the keys of {issuer.name} cannot be had: {error}") from None
            self._keys[issuer.name] = time.monotonic(), keys
            return keys, True


def _imported(published: Mapping[str, Any]) -> Any:
    """The keys that we understand; an issuer may publish others beside them.

    Source: RFC 7517 section 5 (keys of a kind that is not understood are to be ignored).

    Raises:
        ValueError: there is none.
    """
    from joserfc.errors import JoseError  # noqa: PLC0415  only who checks tokens pays for cryptography
    from joserfc.jwk import JWKRegistry, KeySet  # noqa: PLC0415

    found = published.get("keys") if isinstance(published, Mapping) else None
    understood = []
    for key in found if isinstance(found, list) else ():
        try:
            understood.append(JWKRegistry.import_key(key))
        except (JoseError, ValueError, TypeError, LookupError, AttributeError):
            continue
    if not understood:
        raise ValueError("it publishes no key that is understood")
    return KeySet(understood)


def _claims_unverified(token: str) -> Mapping[str, Any]:
    """What a token says of itself, to know whose keys to ask for; nothing is decided by it."""
    part = token.split(".")[1]
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise TokenError("it is not a token") from None
    if not isinstance(found, dict):
        raise TokenError("it is not a token")
    return found


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
