"""`bedplate audit verify`: a ledger that was tampered with is found out, and the event named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cli.kit import as_json, bedplate


def test_an_untouched_ledger_holds(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    found = as_json(hello, "audit", "verify")
    assert found["events"] == found["signed_through"] > 0
    assert found["copies"] == found["signed_heads"] > 0


def test_one_changed_byte_is_found_and_its_event_named(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    with sqlite3.connect(hello / ".bedplate" / "ledger.db") as database:
        database.execute("UPDATE events SET payload = CAST(replace(payload, 'world', 'w0rld') AS BLOB) WHERE seq = 2")
    database.close()
    done = bedplate(hello, "audit", "verify")
    assert done.returncode == 1
    assert "event 2 was changed" in done.stderr


def test_a_dropped_tail_is_found_by_the_copy_outside(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    with sqlite3.connect(hello / ".bedplate" / "ledger.db") as database:
        last = database.execute("SELECT max(seq) FROM events").fetchone()[0]
        database.execute("DELETE FROM events WHERE seq = ?", (last,))
        database.execute("DELETE FROM heads WHERE seq = ?", (last,))
    database.close()
    done = bedplate(hello, "audit", "verify")
    assert done.returncode == 1
    assert "dropped" in done.stderr
