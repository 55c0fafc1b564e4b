"""`bedplate ledger backup`: a copy that is whole, and that restores a project."""

from __future__ import annotations

import shutil
from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_copy_put_in_the_ledgers_place_knows_all_that_happened(hello: Path, tmp_path: Path) -> None:
    bedplate(hello, "run", "hello")
    target = tmp_path / "copy.db"
    events = as_json(hello, "ledger", "backup", str(target))["events"]
    assert events > 3
    for path in (hello / ".bedplate").glob("ledger.db*"):
        path.unlink()
    shutil.copy(target, hello / ".bedplate" / "ledger.db")
    assert as_json(hello, "audit", "verify")["events"] == events
    assert as_json(hello, "plan")["steps"][0]["made_by"] == "hello-1"


def test_it_says_what_it_copied_and_never_overwrites(whole: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    assert bedplate(whole, "ledger", "backup", str(target)).stdout.endswith(f"events copied to {target}\n")
    before = target.read_bytes()
    assert "the target exists" in refused(whole, "ledger", "backup", str(target))
    assert target.read_bytes() == before


def test_a_folder_that_is_not_there_is_named(hello: Path, tmp_path: Path) -> None:
    said = refused(hello, "ledger", "backup", str(tmp_path / "no" / "copy.db"))
    assert f"the folder of the target does not exist (got '{tmp_path / 'no'}')" in said
