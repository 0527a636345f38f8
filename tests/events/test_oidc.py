"""A token is taken that one of our issuers signed, for us, for somebody who may, and that is still valid; no other."""

import base64
import hmac
import json
import time

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from events.oidc import Issuer, IssuerError, Oidc, TokenError
from events.sender import SenderError, Senders

ISSUER = "https://kubernetes.default.svc"
SUBJECT = "system:serviceaccount:models:broker"
KEY = RSAKey.generate_key(2048, parameters={"kid": "one"})
OTHER = RSAKey.generate_key(2048, parameters={"kid": "two"})


class Keys:
    """An issuer's keys, counted."""

    def __init__(self, *keys):
        self.keys = list(keys)
        self.fetched = 0

    def __call__(self):
        self.fetched += 1
        return KeySet(self.keys).as_dict(private=False)


def token(key=KEY, algorithm="RS256", header=None, **claims):
    said = {"iss": ISSUER, "aud": ["deploy"], "sub": SUBJECT, "exp": int(time.time()) + 60} | claims
    kept = {name: value for name, value in said.items() if value is not None}
    return jwt.encode({"alg": algorithm, "kid": key.kid} | (header or {}), kept, key, algorithms=[algorithm])


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def oidc(keys, subjects=("system:serviceaccount:models:*",)):
    return Oidc(lambda: [Issuer(ISSUER, keys)], "deploy", subjects)


def test_a_good_token_is_taken_and_the_keys_are_fetched_once():
    keys = Keys(KEY)
    checks = oidc(keys)
    for _ in range(3):
        assert checks.check(token()) == SUBJECT
    assert keys.fetched == 1
    Senders(lambda: (), checks, anonymous=False).check({"authorization": f"Bearer {token()}"})


def test_a_signature_on_a_curve_is_taken():
    key = ECKey.generate_key("P-256", parameters={"kid": "ec"})
    assert oidc(Keys(key)).check(token(key, "ES256")) == SUBJECT


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["another"]},
        {"aud": None},
        {"iss": "https://stranger"},
        {"iss": None},
        {"exp": int(time.time()) - 600},
        {"exp": None},
        {"nbf": int(time.time()) + 600},
        {"sub": "system:serviceaccount:others:broker"},
        {"sub": None},
    ],
)
def test_a_token_for_another_from_another_or_of_another_time_is_refused(claims):
    with pytest.raises(TokenError):
        oidc(Keys(KEY)).check(token(**claims))


def test_a_signature_of_another_key_is_refused():
    forged = RSAKey.generate_key(2048, parameters={"kid": "one"})
    with pytest.raises(TokenError):
        oidc(Keys(KEY)).check(token(forged))


def test_a_token_signed_with_the_public_key_as_a_secret_or_with_nothing_is_refused():
    head, body, _ = token().split(".")
    forged = encoded(b'{"alg": "HS256", "kid": "one"}') + "." + body
    mark = hmac.new(KEY.as_pem(private=False), forged.encode(), "sha256").digest()
    with pytest.raises(TokenError):
        oidc(Keys(KEY)).check(f"{forged}.{encoded(mark)}")
    with pytest.raises(TokenError):
        oidc(Keys(KEY)).check("eyJhbGciOiJub25lIn0." + body + ".")
    with pytest.raises(TokenError):
        oidc(Keys(KEY)).check(f"{head}.{body}.")


@pytest.mark.parametrize("text", ["a.b.c", "..", "e30.e30.e30", "e30.W10.e30", "\xff.\xff.\xff"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(TokenError):
        oidc(Keys(KEY)).check(text)


def test_a_new_key_is_fetched_but_not_for_every_stranger():
    keys = Keys(KEY)
    checks = oidc(keys)
    checks.check(token())
    keys.keys.append(OTHER)
    with pytest.raises(TokenError):
        checks.check(token(OTHER))  # fetched a moment ago
    checks._keys = {ISSUER: (time.monotonic() - 11.0, checks._keys[ISSUER][1])}
    assert checks.check(token(OTHER)) == SUBJECT
    assert keys.fetched == 2
    stranger = RSAKey.generate_key(2048, parameters={"kid": "three"})
    for _ in range(5):
        with pytest.raises(TokenError):
            checks.check(token(stranger))
    assert keys.fetched == 2


def test_an_issuer_that_does_not_answer_is_said_and_asked_again():
    answers = [OSError("down"), KeySet([KEY]).as_dict(private=False)]

    def keys():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    checks = oidc(keys)
    with pytest.raises(IssuerError, match="cannot be had: down"):
        checks.check(token())
    assert checks.check(token()) == SUBJECT


@pytest.mark.parametrize(
    "strange",
    [{"kty": "EC", "crv": "P-999", "x": "", "y": "", "kid": "q"}, {"kty": "AKP", "kid": "z", "pub": "AA"}, "x", {}],
)
def test_a_key_of_a_new_kind_does_not_close_the_door_to_the_others(strange):
    published = {"keys": [strange, KEY.as_dict(private=False), strange]}
    checks = Oidc(lambda: [Issuer(ISSUER, lambda: published)], "deploy", ("*",))
    assert checks.check(token()) == SUBJECT


@pytest.mark.parametrize("published", [{}, {"keys": 5}, {"keys": []}, {"keys": ["x"]}, []])
def test_an_issuer_without_keys_is_one_that_cannot_be_asked_now(published):
    checks = Oidc(lambda: [Issuer(ISSUER, lambda: published)], "deploy", ("*",))
    with pytest.raises(IssuerError, match="publishes no key"):
        checks.check(token())


@pytest.mark.parametrize("header", [{"crit": 5}, {"crit": [5]}, {"b64": {}}, {"kid": ["one"]}, {"alg": []}, {"typ": 5}])
def test_a_header_of_a_strange_shape_is_a_token_that_is_not_taken(header):
    head = encoded(json.dumps({"alg": "RS256", "kid": "one"} | header).encode())
    claims = encoded(json.dumps({"iss": ISSUER, "aud": "deploy", "sub": SUBJECT, "exp": 9e9}).encode())
    with pytest.raises(TokenError):
        oidc(Keys(KEY)).check(f"{head}.{claims}.AAAA")


def test_a_refused_token_is_a_sender_that_may_not():
    with pytest.raises(SenderError) as refused:
        Senders(lambda: (), oidc(Keys(KEY)), anonymous=False).check({"authorization": f"Bearer {token(aud='x')}"})
    assert refused.value.status == 403
