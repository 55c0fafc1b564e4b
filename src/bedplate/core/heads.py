"""Signed heads: an Ed25519 signature (RFC 8032) over the end of the chain, kept in the ledger and copied outside it.

Whoever rewrites a ledger would have to forge a signature and every copy; tampering is provable up to the last copied head.
Does not know: how the key is protected beyond its file mode (0600), or where a team copies the heads next.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bedplate.core.atomic import write_bytes
from bedplate.core.clock import Clock
from bedplate.core.digest import canonical, digest_bytes
from bedplate.core.errors import ChainBroken, LedgerError
from bedplate.core.ledger import Head, Ledger, SignedHead


@dataclass(frozen=True)
class Audit:
    """What an audit found sound: `events` linked, `signed_heads` valid, the last of them at `signed_through`, `copies` compared outside.

    `foreign_heads` were signed with keys that are not this user's: they fit the chain, but prove nothing here.
    """

    events: int
    signed_heads: int
    signed_through: int
    copies: int
    foreign_heads: int = 0


def signing_key(home: Path) -> Ed25519PrivateKey:
    """The project key of this user, made on first use at `home/keys/signing.pem`. Raises LedgerError when the file is no key."""

    def made() -> bytes:
        raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return base64.b64encode(raw) + b"\n"

    path = home / "keys" / "signing.pem"
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(kept_secret(path, made), validate=False))
    except ValueError as error:
        raise LedgerError("the signing key is damaged", value=str(path), fix="restore it, or move it away to make another") from error


def kept_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The bytes of a secret file, which `make` gives when there is none yet; only its owner can read it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
        write_bytes(fresh, make(), mode=0o600)
        try:  # a link fails when another process made it first; then that one counts
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def message(ledger_id: str, head: Head) -> bytes:
    """The bytes that are signed for a head."""
    return b"bedplate ledger head v1\n" + canonical([ledger_id, head.seq, head.digest])


def sign_head(ledger: Ledger, home: Path, clock: Clock) -> SignedHead | None:
    """Sign the present head, keep it in the ledger and append it to `home/heads/LEDGER.jsonl`; None when it is signed already."""
    head = ledger.head()
    heads = ledger.signed_heads()
    if head.seq == 0 or (heads and heads[-1].seq == head.seq):
        return None
    key = signing_key(home)
    signed = SignedHead(head.seq, head.digest, clock.now(), key_id(key.public_key()), key.sign(message(ledger.id, head)))
    ledger.add_signed_head(signed)
    copy = home / "heads" / f"{ledger.id}.jsonl"
    copy.parent.mkdir(parents=True, exist_ok=True)
    line = {"seq": signed.seq, "digest": signed.digest, "key_id": signed.key_id, "signature": signed.signature.hex()}
    torn = copy.exists() and not copy.read_bytes().endswith(b"\n")  # by a kill: the next line must not be lost with it
    with copy.open("ab") as file:
        file.write((b"\n" if torn else b"") + canonical(line) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return signed


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return digest_bytes(key.public_bytes(Encoding.Raw, PublicFormat.Raw))[:16]


def audit(ledger: Ledger, home: Path) -> Audit:
    """Verify the chain, every signed head in the ledger and every copy outside.

    Raises ChainBroken naming the event that was changed, dropped or reordered, or the head that does not fit.
    """
    end = ledger.verify()
    public = signing_key(home).public_key()
    heads = ledger.signed_heads()
    own = [signed for signed in heads if signed.key_id == key_id(public)]
    for signed in heads:
        _check_head(ledger, signed.seq, signed.digest)
    for signed in own:
        _check_signature(public, ledger.id, signed)
    kept = {(signed.seq, signed.digest, signed.key_id, signed.signature.hex()) for signed in heads}
    copies = _copies(home / "heads" / f"{ledger.id}.jsonl")
    for seq, link, key, signature in copies:
        _check_head(ledger, seq, link)
        if (seq, link, key, signature) not in kept:
            raise ChainBroken(f"the signed head at event {seq} was removed or changed", value=key, fix="restore a backup")
    return Audit(end.seq, len(own), max((signed.seq for signed in own), default=0), len(copies), len(heads) - len(own))


def _copies(path: Path) -> list[tuple[int, str, str, str]]:
    found = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            values = json.loads(line)
        except ValueError:  # a line cut short by a kill; every whole one still counts
            continue
        try:
            found.append((values["seq"], values["digest"], values["key_id"], values["signature"]))
        except (KeyError, TypeError) as error:
            raise ChainBroken(
                "a copy of a signed head was changed", value=str(path), fix="restore it from where it was copied to"
            ) from error
    return found


def _check_head(ledger: Ledger, seq: int, expected: str) -> None:
    present = ledger.digest_at(seq)
    if present is None:
        raise ChainBroken(
            f"event {seq} was dropped: a signed head proves that it was there",
            value=expected[:16],
            fix="restore a backup",
        )
    if present != expected:
        raise ChainBroken(
            f"the history before event {seq} was rewritten: its signed head differs",
            value=present[:16],
            fix="restore a backup",
        )


def _check_signature(public: Ed25519PublicKey, ledger_id: str, signed: SignedHead) -> None:
    try:
        public.verify(signed.signature, message(ledger_id, Head(signed.seq, signed.digest)))
    except InvalidSignature as error:
        raise ChainBroken(
            f"the signature of the head at event {signed.seq} is wrong", value=signed.key_id, fix="restore a backup"
        ) from error
