"""Models signed as people sign them: with the real `model_signing`."""

import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying


class Signer:
    """A key pair; the private key lies in `folder`."""

    def __init__(self, folder: Path, name: str = "key", curve: ec.EllipticCurve | None = None) -> None:
        self.private = ec.generate_private_key(curve or ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(
            self.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.public_file = folder / f"{name}.pub.pem"
        self.public_file.write_text(self.public)

    @property
    def public(self) -> str:
        """The public key, PEM."""
        found = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return found.decode()

    def sign(self, version: Path, *left_out: Path) -> Path:
        """Signs a version's folder as `model_signing sign key` does; the signature's file."""
        signature = version / "model.sig"
        hashed = hashing.Config().set_ignored_paths(paths=[signature, *left_out], ignore_git_paths=True)
        config = signing.Config().use_elliptic_key_signer(private_key=self.file).set_hashing_config(hashed)
        config.sign(version, signature)
        return signature


def accepts(version: Path, public: Path) -> bool:
    """Whether `model_signing verify key` takes a version for what was signed."""
    signature = version / "model.sig"
    hashed = hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=True)
    config = verifying.Config().use_elliptic_key_verifier(public_key=public).set_hashing_config(hashed)
    try:
        config.verify(version, signature)
    except Exception:  # noqa: BLE001  it raises what it likes; all of it is a refusal
        return False
    return True


def rewritten(signature: Path, **changes: object) -> None:
    """Changes members of a signature's bundle, by the path with dots."""
    bundle = json.loads(signature.read_text())
    for path, value in changes.items():
        *outer, last = path.split("__")
        inner = bundle
        for name in outer:
            inner = inner[int(name) if name.isdigit() else name]
        inner[last] = value
    signature.write_text(json.dumps(bundle))
