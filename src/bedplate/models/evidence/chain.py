"""A segment of the ledger's hash chain as lines of JSON, which proves its events without the ledger.

The first line names the ledger, the digest before the segment and the signed head at its end; each other line is a link: number, time in
milliseconds, kind, schema, subject, key, digest of the payload, digest of the link and, for the events that concern the version, the
payload as it was stored. The others' payloads stay where they are: their digests are enough for the chain.
Does not know: what the events say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bedplate.core.digest import canonical, digest_bytes
from bedplate.core.heads import key_id, message
from bedplate.core.ledger import Head, Link, SignedHead

FORMAT = "bedplate chain v1"


@dataclass(frozen=True)
class Held:
    """What a segment proves: how many links of the ledger `ledger` hold up to the signed head, and how many of them show their payload."""

    ledger: str
    first: int
    last: int
    payloads: int


def segment(ledger: str, before: str, links: Iterable[Link], head: SignedHead, shown: Callable[[Link], bool]) -> Iterator[bytes]:
    """The lines of a segment that begins after the digest `before` and ends at `head`; payloads are there for links that are `shown`."""
    signed = {"seq": head.seq, "digest": head.digest, "key_id": head.key_id, "signature": head.signature.hex()}
    yield canonical({"format": FORMAT, "ledger": ledger, "before": before, "head": signed}) + b"\n"
    for link in links:
        payload = link.payload.decode() if link.payload is not None and shown(link) else None
        line = [link.seq, link.at_ms, link.kind, link.schema, link.subject, link.key, link.payload_digest, link.digest, payload]
        yield canonical(line) + b"\n"


def check(lines: Iterable[bytes], public: Ed25519PublicKey) -> tuple[Held | None, str]:
    """What the segment proves, or None and what does not fit, naming the event."""
    try:
        return _checked(iter(lines), public)
    except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        return None, f"it is not in the format: {error}"


def _checked(lines: Iterator[bytes], public: Ed25519PublicKey) -> tuple[Held | None, str]:
    first = json.loads(next(lines, b"{}"))
    head, previous = first.get("head", {}), first.get("before", "")
    if first.get("format") != FORMAT:
        return None, f"its first line does not say {FORMAT!r}"
    expected, began, payloads = None, 0, 0
    for line in lines:
        seq, at_ms, kind, schema, subject, key, payload_digest, digest, payload = json.loads(line)
        link = Link(seq, at_ms, kind, schema, subject, key, None if payload is None else payload.encode(), payload_digest, digest)
        if expected is not None and link.seq != expected:
            return None, f"event {expected} is missing"
        if link.payload is not None and digest_bytes(link.payload) != link.payload_digest:
            return None, f"the payload of event {link.seq} ({link.kind}) was changed"
        if not link.follows(previous):
            return None, f"event {link.seq} ({link.kind}) was changed or reordered"
        began, payloads, previous, expected = began or link.seq, payloads + (link.payload is not None), link.digest, link.seq + 1
    if expected is None or expected - 1 != head["seq"] or previous != head["digest"]:
        return None, f"it does not end at its signed head, event {head['seq']}"
    if head["key_id"] != key_id(public):
        return None, f"its head was signed with another key, {head['key_id']}"
    try:
        public.verify(bytes.fromhex(head["signature"]), message(first["ledger"], Head(head["seq"], head["digest"])))
    except InvalidSignature:
        return None, f"the signature of the head at event {head['seq']} is wrong"
    return Held(first["ledger"], began, head["seq"], payloads), ""
