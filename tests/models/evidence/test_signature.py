"""The model signature: what we sign we verify; another file, byte or key is refused. The command itself is asked in tests/cli."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bedplate.core.errors import EvidenceError, LedgerError
from bedplate.models.evidence.signature import model_key, public_pem, sign_model, signed_files

FILES = {"b.txt": "ab" * 32, "a/model.safetensors": "cd" * 32}


def test_the_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    key = model_key(tmp_path)
    assert public_pem(model_key(tmp_path)) == public_pem(key)
    path = tmp_path / "keys" / "model-signing.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.curve.name == "secp256r1"


def test_what_is_signed_verifies_and_names_the_files(tmp_path: Path) -> None:
    key = model_key(tmp_path)
    bundle = sign_model("price@2", FILES, key)
    assert signed_files(bundle, public_pem(key)) == FILES
    assert sign_model("price@2", dict(reversed(FILES.items())), key) == bundle, "the same files give the same bytes"
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert [each["name"] for each in statement["predicate"]["resources"]] == ["a/model.safetensors", "b.txt"]


def test_another_key_is_refused(tmp_path: Path) -> None:
    bundle = sign_model("price@2", FILES, model_key(tmp_path / "one"))
    with pytest.raises(EvidenceError, match="does not fit its content"):
        signed_files(bundle, public_pem(model_key(tmp_path / "two")))


def test_another_file_is_refused(tmp_path: Path) -> None:
    key = model_key(tmp_path)
    bundle = sign_model("price@2", FILES, key)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"abab", b"abac", 1)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(EvidenceError, match="does not fit its content"):
        signed_files(bundle, public_pem(key))


@pytest.mark.parametrize(
    "damage", [{}, {"mediaType": "x"}, {"dsseEnvelope": {}}, {"dsseEnvelope": {"payload": "%", "signatures": []}}, {"dsseEnvelope": 3}]
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    key = model_key(tmp_path)
    bundle = {**sign_model("price@2", FILES, key), **damage} if damage else {}
    with pytest.raises(EvidenceError):
        signed_files(bundle, public_pem(key))


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    bundle = sign_model("price@2", FILES, model_key(tmp_path))
    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(EvidenceError, match="malformed"):
        signed_files(bundle, other)


def test_a_damaged_key_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "model-signing.pem"
    path.parent.mkdir()
    path.write_text("not a key")
    with pytest.raises(LedgerError, match="damaged"):
        model_key(tmp_path)
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(LedgerError, match="no elliptic-curve key"):
        model_key(tmp_path)
