"""Signed heads: whatever is done to a ledger that was signed, an audit finds it, as long as the key and one copy remain."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.clock import SimClock
from bedplate.core.digest import canonical, digest_bytes
from bedplate.core.errors import ChainBroken, LedgerError
from bedplate.core.event import Draft
from bedplate.core.heads import Audit, audit, kept_secret, key_id, message, sign_head, signing_key
from bedplate.core.ledger import Head, Ledger, _link_digest

EVENTS = 8
SIGNED = (3, 6)


def make(folder: Path) -> None:
    """A ledger of EVENTS events that was signed after each of SIGNED, and the home that holds its key and the copies."""
    home, clock = folder / "home", SimClock(1000.0)
    ledger = Ledger(folder / "ledger.db", "flights", clock)
    for number in range(1, EVENTS + 1):
        ledger.append([Draft("step.accepted", f"s{number}", {"n": number}, key=f"k{number}" if number % 2 else None)])
        if number in SIGNED:
            assert sign_head(ledger, home, clock) is not None
    ledger.close()


def audited(path: Path, home: Path) -> Audit:
    ledger = Ledger(path, "flights", SimClock())
    try:
        return audit(ledger, home)
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a signed ledger, for tests to copy and forge."""
    folder = tmp_path_factory.mktemp("original")
    make(folder)
    return folder


def copied(original: Path, folder: Path) -> tuple[Path, Path]:
    shutil.copytree(original, folder, dirs_exist_ok=True)
    return folder / "ledger.db", folder / "home"


@pytest.fixture
def signed(original: Path, tmp_path: Path) -> tuple[Path, Path]:
    return copied(original, tmp_path)


def edit(path: Path, script: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(script)
    database.close()


def relink(path: Path) -> None:
    """What a forger does who knows this code: compute every digest anew, so that the chain holds."""
    database = sqlite3.connect(path)
    link = digest_bytes(database.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()[0].encode())
    for *row, payload in database.execute("SELECT seq, at_ms, kind, schema, subject, key, payload FROM events ORDER BY seq").fetchall():
        link = _link_digest(link, tuple(row), digest_bytes(payload))
        database.execute("UPDATE events SET payload_digest = ?, digest = ? WHERE seq = ?", (digest_bytes(payload), link, row[0]))
    database.commit()
    database.close()


def test_an_untouched_ledger_is_sound(signed: tuple[Path, Path]) -> None:
    assert audited(*signed) == Audit(events=EVENTS, signed_heads=2, signed_through=6, copies=2, foreign_heads=0)


def test_a_ledger_that_was_never_signed_is_sound_and_proves_nothing(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db", "flights", SimClock()).close()
    assert audited(tmp_path / "ledger.db", tmp_path) == Audit(0, 0, 0, 0)


def change(path: Path) -> None:
    edit(path, "UPDATE events SET payload = X'7B7D' WHERE seq = 2")


def drop(path: Path) -> None:
    edit(path, "DELETE FROM events WHERE seq = 2; UPDATE events SET seq = seq - 1 WHERE seq > 2")


def reorder(path: Path) -> None:
    edit(path, "UPDATE events SET seq = -seq WHERE seq IN (1, 2); UPDATE events SET seq = 3 + seq WHERE seq < 0")


def drop_tail(path: Path) -> None:
    edit(path, "DELETE FROM events WHERE seq > 5")


def drop_everything(path: Path) -> None:
    edit(path, "DELETE FROM events")


@pytest.mark.parametrize("forgery", [change, drop, reorder, drop_tail, drop_everything])
@pytest.mark.parametrize("digests", ["old", "recomputed"])
@pytest.mark.parametrize("heads", ["kept", "deleted", "of another key"])
def test_every_forgery_is_found(signed: tuple[Path, Path], forgery: Callable[[Path], None], digests: str, heads: str) -> None:
    path, home = signed
    forgery(path)
    if digests == "recomputed":
        relink(path)
    if heads == "deleted":
        edit(path, "DELETE FROM heads")
    if heads == "of another key":
        edit(path, "UPDATE heads SET key_id = 'another', digest = coalesce((SELECT digest FROM events WHERE seq = heads.seq), digest)")
    with pytest.raises(ChainBroken) as caught:
        audited(path, home)
    assert "backup" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("script", "finding"),
    [
        ("DELETE FROM heads", "the signed head at event 3 was removed"),
        ("DELETE FROM heads WHERE seq = 6", "the signed head at event 6 was removed"),
        ("UPDATE heads SET signature = X'00' WHERE seq = 3", "signature of the head at event 3 is wrong"),
        ("UPDATE heads SET key_id = 'another' WHERE seq = 3", "signed head at event 3 was removed or changed"),
        ("UPDATE heads SET digest = (SELECT digest FROM events WHERE seq = 4) WHERE seq = 3", "before event 3 was rewritten"),
        ("UPDATE heads SET seq = 4, digest = (SELECT digest FROM events WHERE seq = 4) WHERE seq = 3", "event 4 is wrong"),
        ("DELETE FROM events WHERE seq > 5; DELETE FROM heads WHERE seq > 5", "event 6 was dropped"),
    ],
)
def test_heads_that_were_tampered_with(signed: tuple[Path, Path], script: str, finding: str) -> None:
    path, home = signed
    edit(path, script)
    with pytest.raises(ChainBroken, match=finding):
        audited(path, home)


def test_what_came_after_the_last_signed_head_can_be_dropped_unseen(signed: tuple[Path, Path]) -> None:
    path, home = signed  # the limit of the method, which is why the loop signs every few seconds
    edit(path, "DELETE FROM events WHERE seq > 6")
    assert audited(path, home).events == 6


def test_signing_a_shortened_ledger_does_not_heal_it(signed: tuple[Path, Path]) -> None:
    path, home = signed
    edit(path, "DELETE FROM events WHERE seq > 4; DELETE FROM heads WHERE seq > 4")
    ledger = Ledger(path, "flights", SimClock(2000.0))
    ledger.append([Draft("step.accepted", "new", {"n": number}) for number in range(5)])
    assert sign_head(ledger, home, SimClock(2000.0)) is not None
    with pytest.raises(ChainBroken, match="before event 6 was rewritten"):
        audit(ledger, home)
    ledger.close()


def test_without_the_key_heads_prove_nothing_and_are_not_counted_as_valid(signed: tuple[Path, Path], tmp_path: Path) -> None:
    assert audited(signed[0], tmp_path / "elsewhere") == Audit(EVENTS, 0, 0, 0, foreign_heads=2)


CELLS = ["at_ms", "kind", "schema", "subject", "key", "payload", "payload_digest", "digest"]


@settings(max_examples=60, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    seq=st.integers(1, max(SIGNED)),
    other=st.integers(1, EVENTS),
    recompute=st.booleans(),
    forget=st.booleans(),
)
def test_any_edit_of_any_cell_is_found(
    original: Path, tmp_path_factory: pytest.TempPathFactory, cell: str, seq: int, other: int, recompute: bool, forget: bool
) -> None:
    path, home = copied(original, tmp_path_factory.mktemp("edited"))
    before = rows(path)
    value = {"at_ms": str(other), "kind": "'alias.moved'", "schema": "7", "key": f"'x{other}'", "payload": f"X'{other:02X}'"}
    edit(path, f"UPDATE events SET {cell} = {value.get(cell) or repr(str(other))} WHERE seq = {seq}")
    if recompute:
        relink(path)
    if forget:
        edit(path, "DELETE FROM heads")
    if rows(path) == before and not forget:  # recomputing put back the digest that was edited
        assert audited(path, home).signed_heads == 2
    else:
        with pytest.raises(ChainBroken):
            audited(path, home)


def rows(path: Path) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    found = database.execute("SELECT * FROM events ORDER BY seq").fetchall()
    database.close()
    return found


# -- copies outside -------------------------------------------------------------------------------------------------------------------


def copies(home: Path) -> Path:
    return next((home / "heads").iterdir())


def test_a_copy_is_all_that_an_outsider_needs(signed: tuple[Path, Path]) -> None:
    home = signed[1]
    public = signing_key(home).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    copy = copies(home)
    for line in copy.read_text().splitlines():
        values = json.loads(line)
        signature = bytes.fromhex(values["signature"])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message(copy.stem, Head(values["seq"], values["digest"])))
        assert values["key_id"] == digest_bytes(public)[:16]
    assert message("id", Head(1, "d")) == b'bedplate ledger head v1\n["id",1,"d"]'


def test_a_copy_that_was_cut_short_by_a_kill_costs_that_copy_only(signed: tuple[Path, Path]) -> None:
    path, home = signed
    copy = copies(home)
    copy.write_bytes(copy.read_bytes()[:-20])
    assert audited(path, home).copies == 1
    ledger = Ledger(path, "flights", SimClock(3000.0))
    assert sign_head(ledger, home, SimClock(3000.0)) is not None  # its line begins anew, not on the torn one
    assert audit(ledger, home) == Audit(EVENTS, 3, EVENTS, 2)
    ledger.close()


@pytest.mark.parametrize("line", [{"seq": 3}, {}, [], 3])
def test_a_copy_that_was_changed(signed: tuple[Path, Path], line: object) -> None:
    path, home = signed
    with copies(home).open("ab") as file:
        file.write(canonical(line) + b"\n")
    with pytest.raises(ChainBroken, match="copy of a signed head"):
        audited(path, home)


# -- signing and the key --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db", "flights", SimClock())
    yield opened
    opened.close()


def test_a_head_is_signed_once(ledger: Ledger, tmp_path: Path) -> None:
    clock = SimClock(5.0)
    assert sign_head(ledger, tmp_path, clock) is None  # nothing happened yet
    ledger.append([Draft("step.accepted", "a", {})])
    head = sign_head(ledger, tmp_path, clock)
    assert head is not None
    assert (head.seq, head.digest, head.signed_at_s) == (1, ledger.head().digest, 5.0)
    assert ledger.signed_heads() == [head]
    assert sign_head(ledger, tmp_path, clock) is None
    assert len(copies(tmp_path).read_text().splitlines()) == 1


def test_the_key_is_made_once_and_is_for_its_owner_only(tmp_path: Path) -> None:
    first = key_id(signing_key(tmp_path).public_key())
    assert key_id(signing_key(tmp_path).public_key()) == first
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["signing.pem"]
    assert stat.S_IMODE((tmp_path / "keys" / "signing.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_processes_that_race_for_the_first_key_agree(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from bedplate.core.heads import key_id, signing_key\n"
        "print(key_id(signing_key(Path(sys.argv[1])).public_key()))"
    )
    racers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({racer.communicate(timeout=60)[0] for racer in racers}) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["signing.pem"]


@pytest.mark.parametrize("data", [b"", b"AAAA\n", b"!" * 44, b"\xff" * 32])
def test_a_damaged_key_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signing.pem").write_bytes(data)
    with pytest.raises(LedgerError, match="signing key is damaged") as caught:
        signing_key(tmp_path)
    assert str(tmp_path) in str(caught.value.value)


def test_two_who_sign_one_ledger_are_told_apart(ledger: Ledger, tmp_path: Path) -> None:
    clock = SimClock()
    for who in ("one", "two"):
        ledger.append([Draft("step.accepted", "a", {"by": who})])
        sign_head(ledger, tmp_path / who, clock)
    assert audit(ledger, tmp_path / "one") == Audit(2, 1, 1, 1, foreign_heads=1)
    assert audit(ledger, tmp_path / "two") == Audit(2, 1, 2, 1, foreign_heads=1)


def test_a_secret_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "other.pem"
    assert kept_secret(path, lambda: b"one") == b"one"
    assert kept_secret(path, lambda: b"two") == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["other.pem"]
