"""`model.sig`: who vouches for a version's files, as `model_signing sign key` writes it. Pure but for the imports.

A Sigstore bundle (JSON) that holds a DSSE envelope, whose payload is an in-toto statement, whose predicate names every
file with its digest. What is verified: one signature of the envelope, by one of the keys that are trusted; the types of
bundle, payload, statement and predicate; that the statement agrees with itself. Trusted are public keys alone:
certificates and Sigstore's identities are not, so nothing is asked of the network.

Source: sigstore/model-transparency 1.1 (`model_signing/_signing`), secure-systems-lab/dsse protocol.md, in-toto/
attestation spec/v1, docs.sigstore.dev/about/bundle. docs/adr/0008 says why the package itself is not used.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loader import object_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

NAME = "model.sig"
"""Of the file, in the version's folder; what `--signature VERSION/model.sig` writes."""

MAX_BYTES = 16 << 20
"""Bytes of it that are read: some 100,000 files."""

MAX_KEYS = 32

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"

ALGORITHMS: Mapping[str, int] = {"sha256": 32, "blake2": 64}
"""Digests of files that are taken, and their bytes. Source: `model_signing hashing.py`; blake2 is BLAKE2b."""

_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""Curve -> digest that is signed. Source: `model_signing/_signing/sign_ec_key.py`."""

_END = "-----END PUBLIC KEY-----"


class SignatureError(ValueError):
    """A version is not what one of the keys vouches for, in words."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What the signature says of one file: an algorithm of `ALGORITHMS`, and the digest's bytes."""

    algorithm: str
    digest: bytes


class SigningKeys:
    """Public keys that are trusted. Immutable, safe from any thread.

    Args:
        pem: one or several public keys, PEM, of the curves P-256, P-384 or P-521.

    Raises:
        ValueError: none is there, or one is not such a key; in words.
    """

    def __init__(self, pem: str) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  only who trusts keys pays for it
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

        blocks = [block.strip() for block in pem.split(_END) if block.strip()]
        if not 0 < pem.count(_END) <= MAX_KEYS:
            raise ValueError(
                f"found {pem.count(_END)} public keys, wanted 1 to {MAX_KEYS} in PEM (-----BEGIN PUBLIC KEY-----)"
            )
        keys: list[EllipticCurvePublicKey] = []
        for number, block in enumerate(blocks, 1):
            try:
                key = load_pem_public_key(f"{block}\n{_END}\n".encode())
            except (ValueError, UnsupportedAlgorithm) as error:
                raise ValueError(f"key {number} is no public key in PEM ({error})") from None
            if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
                raise ValueError(f"key {number} is of another kind: wanted an elliptic curve, P-256, P-384 or P-521")
            keys.append(key)
        self._keys = tuple(keys)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether one of the keys made `signature` (ECDSA, DER) of `message`."""
        return any(_verifies(key, signature, message) for key in self._keys)


def signed_files(bundle: bytes, keys: SigningKeys) -> dict[str, FileDigest]:
    """What a signature vouches for: path relative to the version's folder -> digest.

    Raises:
        SignatureError: none of the keys made it, or it does not say what it should.
    """
    outer = _object(_json(bundle, "the file"), "the file")
    _is(outer.get("mediaType"), BUNDLE_TYPE, "mediaType")
    envelope = _object(outer.get("dsseEnvelope"), "dsseEnvelope")
    _is(envelope.get("payloadType"), PAYLOAD_TYPE, "payloadType")
    payload = _base64(envelope.get("payload"), "payload")
    signatures = _list(envelope.get("signatures"), "signatures")
    if len(signatures) != 1:  # Source: a Sigstore bundle's envelope has exactly one
        raise SignatureError(f"it has {len(signatures)} signatures, wanted one")
    signature = _base64(_object(signatures[0], "the signature").get("sig"), "sig")
    if not keys.verify(signature, _pae(payload)):
        raise SignatureError("it was made by none of the keys that are trusted, or changed since")
    return _files(_object(_json(payload, "the statement"), "the statement"))


def _verifies(key: "EllipticCurvePublicKey", signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  as above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415

    try:
        key.verify(signature, message, ECDSA(getattr(hashes, _CURVES[key.curve.name])()))
    except InvalidSignature:
        return False
    return True


def _pae(payload: bytes) -> bytes:
    """What is signed. Source: DSSE's pre-authentication encoding, protocol.md."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _files(statement: Mapping[str, Any]) -> dict[str, FileDigest]:
    _is(statement.get("_type"), STATEMENT_TYPE, "_type")
    _is(statement.get("predicateType"), PREDICATE_TYPE, "predicateType")
    predicate = _object(statement.get("predicate"), "predicate")
    method = _object(predicate.get("serialization"), "serialization").get("method")
    if method != "files":
        raise SignatureError(f"it is of {method!r:.40}, wanted one of whole files: sign without shards")
    found: dict[str, FileDigest] = {}
    whole = hashlib.sha256()
    for entry in _list(predicate.get("resources"), "resources"):
        path, one = _file(_object(entry, "a resource"))
        if path in found:
            raise SignatureError(f"it names {object_name.shown(path)} twice")
        found[path] = one
        whole.update(one.digest)
    subjects = _list(statement.get("subject"), "subject")
    digest = _object(_object(subjects[0], "subject").get("digest"), "digest") if len(subjects) == 1 else {}
    if not found or digest.get("sha256") != whole.hexdigest():
        raise SignatureError("its files are not those that its subject sums up")
    return found


def _file(entry: Mapping[str, Any]) -> tuple[str, FileDigest]:
    path, algorithm, text = entry.get("name"), entry.get("algorithm"), entry.get("digest")
    if not isinstance(path, str) or (reason := object_name.fault(path)) is not None:
        raise SignatureError(f"it names {path!r:.80}: {reason if isinstance(path, str) else 'no name'}")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise SignatureError(
            f"it has a digest of {algorithm!r:.40} of {object_name.shown(path)}, wanted {' or '.join(ALGORITHMS)}"
        )
    try:
        digest = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        digest = b""
    if len(digest) != ALGORITHMS[algorithm]:
        raise SignatureError(f"its digest of {object_name.shown(path)} is none of {algorithm}")
    return path, FileDigest(algorithm, digest)


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"{where} is not JSON ({error!s:.200})") from None


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SignatureError(f"{where} is no object")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise SignatureError(f"{where} is no list")
    return value


def _is(found: Any, wanted: str, where: str) -> None:
    if found != wanted:
        raise SignatureError(f"{where} is {found!r:.80}, wanted {wanted}")


def _base64(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:  # binascii's is one
            pass
    raise SignatureError(f"{where} is not base64")
