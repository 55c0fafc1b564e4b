"""The OpenSSF model signature of a version's files: a Sigstore bundle with a DSSE envelope, as the `model_signing` command verifies it.

That command's keys are ECDSA on the NIST curves only, so there is a P-256 key beside the project's Ed25519 key. Signatures are
deterministic (RFC 6979). Sources: OpenSSF Model Signing v1.0 (https://model_signing/signature/v1.0), Sigstore bundle v0.3.
Does not know: what the files are, or the registry.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from bedplate.core.errors import EvidenceError, LedgerError
from bedplate.core.heads import kept_secret
from bedplate.models.dsse import PAYLOAD_TYPE, STATEMENT_TYPE, pae

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def model_key(home: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of this user for model signatures, made on first use at `home/keys/model-signing.pem`. Raises LedgerError."""

    def made() -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    path = home / "keys" / "model-signing.pem"
    try:
        key = load_pem_private_key(kept_secret(path, made), password=None)
    except ValueError as error:
        raise LedgerError("the model signing key is damaged", value=str(path), fix="restore it, or move it away to make another") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LedgerError("the model signing key is no elliptic-curve key", value=str(path), fix="move it away to make another")
    return key


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign_model(name: str, files: Mapping[str, str], key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """The bundle over `files` (path inside the model's folder -> SHA-256 in hexadecimal digits). The same files give the same bundle."""
    resources = [{"name": path, "algorithm": "sha256", "digest": files[path]} for path in sorted(files)]
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    subject = {"name": name, "digest": {"sha256": _root(resources)}}
    predicate = {"serialization": serialization, "resources": resources}
    statement = {"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": PREDICATE_TYPE, "predicate": predicate}
    payload = json.dumps(statement, sort_keys=True).encode()
    signature = key.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(SHA256(), deterministic_signing=True))
    hint = hashlib.sha256(public_pem(key)).hexdigest()
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def signed_files(bundle: Mapping[str, Any], pem: bytes) -> dict[str, str]:
    """The files that a bundle vouches for: path -> SHA-256. Raises EvidenceError when it is malformed or was not signed with the key."""
    try:
        public = load_pem_public_key(pem)
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        if bundle["mediaType"] != MEDIA_TYPE or not isinstance(public, ec.EllipticCurvePublicKey):
            raise ValueError("not a bundle with an elliptic-curve key")
        public.verify(signature, pae(envelope["payloadType"], payload), ec.ECDSA(SHA256()))
        statement = json.loads(payload)
        resources = statement["predicate"]["resources"]
        if statement["subject"][0]["digest"]["sha256"] != _root(resources):
            raise ValueError("the digest of the whole does not fit the files")
        return {each["name"]: each["digest"] for each in resources}
    except InvalidSignature as error:
        raise EvidenceError("the model signature does not fit its content", fix="it was changed after it was signed: restore it") from error
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise EvidenceError("the model signature is malformed", value=str(error), fix="restore it") from error


def _root(resources: list[dict[str, str]]) -> str:
    hasher = hashlib.sha256()
    for each in resources:
        hasher.update(bytes.fromhex(each["digest"]))
    return hasher.hexdigest()
