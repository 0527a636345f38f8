"""Versions and their signatures, made by the real `model_signing`; what is refused here, it refuses too."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loader.signed_files import awaited, check_folder, check_stored
from loader.signed_model import PAYLOAD_TYPE, SignatureError, SigningKeys, signed_files
from loader.status import Code, ServingError
from loader.storage import open_storage
from tests.loader.signing import Signer, accepts, rewritten


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, golden: Path, signer: Signer) -> Path:
    """Folder of one signed version, `1`; not to be written to."""
    base = tmp_path_factory.mktemp("signed")
    shutil.copytree(golden / "half_plus_two" / "1", base / "1")
    signer.sign(base / "1")
    return base


@pytest.fixture
def version(tmp_path: Path, signed: Path) -> Path:
    """A copy of it to change."""
    shutil.copytree(signed, tmp_path / "models")
    return tmp_path / "models" / "1"


def verdict(version: Path, keys: SigningKeys) -> str:
    """Why a version is refused, on this machine and in storage alike; empty when it is not."""
    here = ""
    try:
        check_folder(version, keys)
    except ServingError as error:
        here = error.message if error.code is Code.FAILED_PRECONDITION else repr(error)
    storage = open_storage(f"file://{version.parent}")
    assert check_stored(storage, storage.list_versions()[int(version.name)], keys) == here
    return here


def test_a_signed_version_is_taken_by_the_key_that_signed_it(version: Path, signer: Signer) -> None:
    assert verdict(version, SigningKeys(signer.public)) == ""
    assert accepts(version, signer.public_file)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=["P-384", "P-521"])
def test_every_curve_that_signs_is_verified(version: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    (version / "model.sig").unlink()
    signer = Signer(tmp_path, curve=curve)
    signer.sign(version)
    assert verdict(version, SigningKeys(signer.public)) == ""


def test_one_of_several_keys_is_enough_and_another_is_not(version: Path, signer: Signer, tmp_path: Path) -> None:
    other = Signer(tmp_path, "other")
    assert verdict(version, SigningKeys(other.public + signer.public)) == ""
    assert "none of the keys" in verdict(version, SigningKeys(other.public))
    assert not accepts(version, other.public_file)


CHANGES: dict[str, Callable[[Path], object]] = {
    "saved_model.pb: not what was signed": lambda v: (v / "saved_model.pb").write_bytes(
        (v / "saved_model.pb").read_bytes()[:-1] + b"\0"
    ),
    "variables/variables.index: signed, but not there": lambda v: (v / "variables" / "variables.index").unlink(),
    "assets.extra/tf_serving_warmup_requests: not signed": lambda v: (
        (v / "assets.extra").mkdir(),
        (v / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b""),
    ),
    "fingerprint.pb: not what was signed": lambda v: (v / "fingerprint.pb").write_bytes(b""),
}


@pytest.mark.parametrize("why", CHANGES)
def test_a_file_that_changed_went_or_came_is_refused(version: Path, signer: Signer, why: str) -> None:
    CHANGES[why](version)
    assert verdict(version, SigningKeys(signer.public)) == why
    assert not accepts(version, signer.public_file)


def test_what_git_keeps_beside_a_model_is_nobodys_business(version: Path, signer: Signer) -> None:
    (version / ".gitattributes").write_text("*.pb binary")
    assert verdict(version, SigningKeys(signer.public)) == ""
    assert accepts(version, signer.public_file)


def test_files_that_the_signer_left_out_are_refused_all_the_same(version: Path, signer: Signer) -> None:
    (version / "model.sig").unlink()
    signer.sign(version, version / "variables")
    assert verdict(version, SigningKeys(signer.public)) == "variables/variables.data-00000-of-00001: not signed"


def test_a_link_to_a_folder_is_refused(version: Path, signer: Signer, tmp_path: Path) -> None:
    (version / "variables").rename(tmp_path / "elsewhere")
    (version / "variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ServingError, match="a link to a folder"):
        check_folder(version, SigningKeys(signer.public))


def test_a_version_without_a_signature_waits_for_it(version: Path, signer: Signer) -> None:
    (version / "model.sig").unlink()
    (listing,) = open_storage(f"file://{version.parent}").list_versions().values()
    assert awaited(listing) == ["model.sig: not there, and only signed versions are taken"]
    assert verdict(version, SigningKeys(signer.public)) == "model.sig: not there"


def test_a_huge_signature_is_not_read(version: Path, signer: Signer) -> None:
    with (version / "model.sig").open("r+b") as file:
        file.truncate(17 << 20)
    assert verdict(version, SigningKeys(signer.public)) == "model.sig: 17825792 bytes, at most 16777216 are read"


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("mediaType", "application/vnd.dev.sigstore.bundle.v0.1+json", "mediaType"),
        ("dsseEnvelope__payloadType", "text/plain", "payloadType"),
        ("dsseEnvelope__payload", "e30=", "none of the keys"),
        ("dsseEnvelope__payload", "not base64!", "payload is not base64"),
        ("dsseEnvelope__payload", None, "payload is not base64"),
        ("dsseEnvelope__signatures", [], "0 signatures"),
        ("dsseEnvelope__signatures", [{"sig": ""}], "none of the keys"),
        ("dsseEnvelope__signatures", [7], "the signature is no object"),
        ("dsseEnvelope", [], "dsseEnvelope is no object"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_refused(
    version: Path, signer: Signer, path: str, value: object, why: str
) -> None:
    rewritten(version / "model.sig", **{path: value})
    assert why in verdict(version, SigningKeys(signer.public))
    assert not accepts(version, signer.public_file)


def bundle_of(signer: Signer, statement: object) -> bytes:
    """A bundle as `model_signing` makes one, about anything, with a good signature."""
    payload = json.dumps(statement).encode()
    message = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    signature = signer.private.sign(message, ec.ECDSA(hashes.SHA256()))
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode()}],
            },
        }
    ).encode()


def statement_of(version: Path) -> dict[str, object]:
    bundle = json.loads((version / "model.sig").read_text())
    found: dict[str, object] = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    return found


def resource(name: object = "a", algorithm: object = "sha256", digest: object = "00" * 32) -> dict[str, object]:
    return {"name": name, "algorithm": algorithm, "digest": digest}


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        ([resource("../a")], "leaves its folder"),
        ([resource("/etc/passwd")], "absolute"),
        ([resource("a\x1b[2J")], "control characters"),
        ([resource(7)], "no name"),
        ([resource(), resource()], "names a twice"),
        ([resource(algorithm="md5")], "wanted sha256 or blake2"),
        ([resource(algorithm=["sha256"])], "wanted sha256 or blake2"),
        ([resource(digest="00")], "none of sha256"),
        ([resource(digest="zz" * 32)], "none of sha256"),
        ([resource(digest=None)], "none of sha256"),
        (["a"], "a resource is no object"),
        ([], "its subject sums up"),
        ({}, "resources is no list"),
    ],
)
def test_a_signer_who_says_nonsense_is_told_so(version: Path, signer: Signer, resources: object, why: str) -> None:
    statement = statement_of(version)
    statement["predicate"]["resources"] = resources  # type: ignore[index]
    with pytest.raises(SignatureError, match=why):
        signed_files(bundle_of(signer, statement), SigningKeys(signer.public))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "_type"),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "predicateType"),
        ({"subject": []}, "its subject sums up"),
        ({"subject": [{"digest": {"sha256": "00" * 32}}]}, "its subject sums up"),
        ({"predicate": {"serialization": {"method": "shards"}}}, "sign without shards"),
        ({"predicate": None}, "predicate is no object"),
    ],
)
def test_another_kind_of_statement_vouches_for_nothing(
    version: Path, signer: Signer, changes: dict[str, object], why: str
) -> None:
    with pytest.raises(SignatureError, match=why):
        signed_files(bundle_of(signer, statement_of(version) | changes), SigningKeys(signer.public))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_a_signature_can_be_changed_into_trust(signed: Path, signer: Signer, data: st.DataObject) -> None:
    whole = (signed / "1" / "model.sig").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    good = signed_files(whole, SigningKeys(signer.public))
    try:
        found = signed_files(whole[:at] + bytes([byte]) + whole[at + 1 :], SigningKeys(signer.public))
    except SignatureError:
        return
    assert found == good  # what is not signed, such as a blank, may differ


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"null", b'"x"', b"\xff\xfe", b'{"mediaType": 7}'])
def test_what_is_no_bundle_is_said_to_be_none(signer: Signer, content: bytes) -> None:
    with pytest.raises(SignatureError):
        signed_files(content, SigningKeys(signer.public))


def test_only_public_keys_of_the_right_kind_are_trusted(signer: Signer) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    other = rsa_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    brainpool = ec.generate_private_key(ec.BrainpoolP256R1()).public_key()
    curve = brainpool.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in ("", "x", other, curve, signer.public.replace("A", "B"), signer.public * 33, signer.file.read_text()):
        with pytest.raises(ValueError, match="key"):
            SigningKeys(text)
