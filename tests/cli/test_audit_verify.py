"""`bedplate audit verify`: a ledger that was tampered with is found out, and the event named."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from bedplate.core import projection
from bedplate.core.event import Draft
from bedplate.flow.workspace import open_workspace
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


def test_changed_bytes_of_a_version_are_named(still: Path) -> None:
    found = as_json(still, "audit", "verify", "--artifacts")
    compared = {each["version"]: each["holds"] for each in found["artifacts"]}
    assert compared["amount@1"] and compared["fit.inputs@1"] and compared["shop_sales@1"]
    assert all(compared.values())
    [numbers] = still.glob(".bedplate/runs/fit.inputs-1/1/out/training_set/numbers.f64")
    numbers.write_bytes(numbers.read_bytes()[:-1] + b"\x01")
    done = bedplate(still, "audit", "verify", "--artifacts")
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert line.startswith("WRONG  fit.inputs@1")
    assert "numbers.f64" in line
    assert bedplate(still, "audit", "verify").returncode == 0, "the ledger itself is as it was"


def test_code_that_ran_and_files_that_were_added_are_compared_too(still: Path) -> None:
    code = next((still / ".bedplate" / "code").glob("*/fit.py"))
    code.write_text(code.read_text() + "\n")
    (next(still.glob(".bedplate/runs/fit-1/1/out/model")) / "extra.py").write_text("x")
    done = bedplate(still, "audit", "verify", "--artifacts")
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert [line.split()[1] for line in wrong] == ["code", "amount@1"]
    assert "does not name: extra.py" in wrong[1]


def test_what_was_removed_with_a_reason_is_not_missed(still: Path) -> None:
    folder = next(still.glob(".bedplate/runs/fit.inputs-1/1/out/training_set"))
    folder.rename(folder.with_name("gone"))
    assert "WRONG  fit.inputs@1" in bedplate(still, "audit", "verify", "--artifacts").stdout
    with open_workspace(still) as workspace:
        workspace.ledger.append([Draft("version.removed", "fit.inputs@1", {"by": "ann", "reason": "space", "digest": ""})])
    assert bedplate(still, "audit", "verify", "--artifacts").returncode == 0


def test_stored_records_that_were_tampered_with_are_made_anew(still: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "OPENING_EVENTS", 1)  # so that a short history is stored too
    bedplate(still, "lineage", "amount@1")
    with closing(sqlite3.connect(still / ".bedplate" / "projection.db")) as database:
        bodies = [body for (body,) in database.execute("SELECT body FROM versions WHERE id = 'amount'")]
        body = next(body for body in bodies if '"run":"fit-1"' in body)
        lie = body.replace('"run":"fit-1"', '"run":"fit-9"')
        database.execute("UPDATE versions SET body = ?, crc = ? WHERE body = ?", (lie, zlib.crc32(lie.encode()), body))
        database.commit()
    assert "run fit-1" not in bedplate(still, "lineage", "amount@1").stdout
    assert bedplate(still, "audit", "verify", "--artifacts").returncode == 0
    assert "run fit-1" in bedplate(still, "lineage", "amount@1").stdout
