"""A segment of the chain proves its events without the ledger, and shows only the payloads that it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.heads import signing_key
from bedplate.core.ledger import Ledger
from bedplate.models.evidence.chain import check, segment

FIRST = 4


@pytest.fixture
def public(own_home: Path) -> Ed25519PublicKey:
    return signing_key(own_home).public_key()


@pytest.fixture
def lines(ledger: Ledger) -> list[bytes]:
    """From the fourth event on; the payloads of runs are shown."""
    [head] = ledger.signed_heads()
    before = ledger.digest_at(FIRST - 1)
    assert before is not None
    return list(segment(ledger.id, before, ledger.links(FIRST, head.seq), head, lambda link: link.kind.startswith("run.")))


def test_it_holds_up_to_the_signed_head(lines: list[bytes], ledger: Ledger, public: Ed25519PublicKey) -> None:
    held, why = check(lines, public)
    assert why == ""
    assert held is not None
    assert (held.ledger, held.first, held.last) == (ledger.id, FIRST, ledger.head().seq)
    assert held.payloads == sum(event.kind.startswith("run.") for event in ledger.read(FIRST - 1))


def test_payloads_that_are_not_shown_are_not_in_it(lines: list[bytes]) -> None:
    rows = [json.loads(line) for line in lines[1:]]
    assert all((row[8] is not None) == row[2].startswith("run.") for row in rows)
    assert not any(b"promoted: rmse" in line for line in lines)


def test_the_whole_chain_begins_at_the_ledgers_identity(ledger: Ledger, public: Ed25519PublicKey) -> None:
    [head] = ledger.signed_heads()
    whole = segment(ledger.id, ledger.beginning().digest, ledger.links(1, head.seq), head, lambda _: True)
    held, why = check(whole, public)
    assert (why, held is not None and held.first) == ("", 1)


CHANGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a payload": (lambda lines: [line.replace(b'\\"lr\\":0.1', b'\\"lr\\":0.2') for line in lines], "the payload of event"),
    "a subject": (lambda lines: [lines[0], lines[1].replace(b"make-1", b"make-2"), *lines[2:]], "event 4 "),
    "a link taken away": (lambda lines: [*lines[:3], *lines[4:]], "event 6 is missing"),
    "two links swapped": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "event 6 is missing"),
    "the end cut off": (lambda lines: lines[:-1], "does not end at its signed head"),
    "no links": (lambda lines: lines[:1], "does not end at its signed head"),
    "another beginning": (lambda lines: [lines[0].replace(b'"before":"', b'"before":"0'), *lines[1:]], "event 4 "),
    "another ledger": (lambda lines: [lines[0].replace(b'"ledger":"', b'"ledger":"0'), *lines[1:]], "signature of the head"),
    "another format": (lambda lines: [lines[0].replace(b"chain v1", b"chain v2"), *lines[1:]], "first line"),
    "nothing": (lambda _: [], "first line"),
    "nonsense": (lambda lines: [lines[0], b"\xff\n"], "not in the format"),
    "a list": (lambda lines: [b"[]\n", *lines[1:]], "not in the format"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_changed_is_named(lines: list[bytes], public: Ed25519PublicKey, what: str) -> None:
    change, named = CHANGES[what]
    changed = change(lines)
    assert changed != lines
    held, why = check(changed, public)
    assert held is None
    assert named in why


def test_another_key_did_not_sign_it(lines: list[bytes]) -> None:
    held, why = check(lines, Ed25519PrivateKey.generate().public_key())
    assert held is None
    assert "another key" in why


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_goes_unnoticed(lines: list[bytes], public: Ed25519PublicKey, data: st.DataObject) -> None:
    row = data.draw(st.integers(1, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[row]) - 2))
    bit = data.draw(st.integers(0, 7))
    line = bytearray(lines[row])
    line[place] ^= 1 << bit
    held, _ = check([*lines[:row], bytes(line), *lines[row + 1 :]], public)
    same = json.loads(lines[row])
    try:
        said = json.loads(bytes(line))
    except ValueError:
        said = None
    assert held is None or said == same, "only white space may differ"
