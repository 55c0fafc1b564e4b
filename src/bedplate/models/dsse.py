"""Signed statements: an in-toto Statement v1 in a DSSE envelope, signed with Ed25519.

Sources: in-toto attestation framework, "Statement" (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md); DSSE v1.0,
"Protocol" and "Envelope" (https://github.com/secure-systems-lab/dsse). What is signed is the pre-authentication encoding (PAE) of the type
and the bytes of the payload, so no parser runs before the signature was checked.
Does not know: what a statement says, where an envelope is kept, or whose key it is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bedplate.core.digest import canonical
from bedplate.core.errors import EvidenceError
from bedplate.core.heads import key_id

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SHA256_HEX_CHARS = 64


def statement(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto Statement v1 about `subjects` (name -> SHA-256, 64 hexadecimal digits). Raises EvidenceError for a digest that is none."""
    for name, digest in subjects.items():
        if len(digest) != SHA256_HEX_CHARS or digest.strip("0123456789abcdef"):
            raise EvidenceError(f"the subject {name!r} has no SHA-256", value=digest, fix="give 64 lower-case hexadecimal digits")
    named = [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()]
    return {"_type": STATEMENT_TYPE, "subject": named, "predicateType": predicate_type, "predicate": dict(predicate)}


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE v1: `DSSEv1 LEN(type) type LEN(payload) payload`, lengths in bytes, as decimal ASCII."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(statement: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """The DSSE envelope of a statement: payload in base64, one signature with the key's id. The same statement gives the same bytes."""
    payload = canonical(dict(statement))
    signature = key.sign(pae(PAYLOAD_TYPE, payload))
    signed = {"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}
    return {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": [signed]}


def verify(envelope: Mapping[str, Any], public: Ed25519PublicKey) -> dict[str, Any]:
    """The statement in an envelope that `public` signed.

    Raises EvidenceError when the envelope is malformed, nobody signed with this key, or a byte was changed since.
    """
    payload_type, payload, signatures = _opened(envelope)
    own = [signature for keyid, signature in signatures if keyid in ("", key_id(public))]
    if not own:
        signers = ", ".join(keyid for keyid, _ in signatures) or "nobody"
        raise EvidenceError(
            f"an envelope is signed by another key than {key_id(public)}", value=signers, fix="verify with the public key of that signer"
        )
    if not any(_fits(public, signature, pae(payload_type, payload)) for signature in own):
        raise EvidenceError(
            "the signature of an envelope does not fit its content",
            value=key_id(public),
            fix="it was changed after it was signed: restore it",
        )
    if payload_type != PAYLOAD_TYPE:
        raise EvidenceError("an envelope holds no in-toto statement", value=payload_type, fix=f"its payloadType must be {PAYLOAD_TYPE}")
    try:
        found = json.loads(payload)
    except ValueError as error:
        raise EvidenceError("the payload of an envelope is no JSON", fix="sign an in-toto statement") from error
    if not isinstance(found, dict) or found.get("_type") != STATEMENT_TYPE:
        raise EvidenceError("the payload of an envelope is no in-toto statement v1", fix=f"its _type must be {STATEMENT_TYPE}")
    return found


def _opened(envelope: Mapping[str, Any]) -> tuple[str, bytes, list[tuple[str, bytes]]]:
    """Type, payload and (keyid, signature)s of an envelope; both base64 alphabets are read, as DSSE asks."""
    try:
        signatures = [(str(each.get("keyid") or ""), _decoded(each["sig"])) for each in envelope["signatures"]]
        return str(envelope["payloadType"]), _decoded(envelope["payload"]), signatures
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise EvidenceError(
            "an envelope is not in the DSSE format", value=type(error).__name__, fix="it needs payloadType, payload and signatures"
        ) from error


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)


def _fits(public: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True
