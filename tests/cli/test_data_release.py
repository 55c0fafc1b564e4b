"""`bedplate data release`: ingestion goes on from the version, each row once."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused
from cli.sales import click, good, ids


def test_a_stream_is_read_on_from_the_cut_and_each_row_comes_once(sales: Path) -> None:
    assert bedplate(sales, "data", "rollback", "clicks@1", "--reason", "x").returncode == 0
    click(sales, 60)
    assert "fresh" in bedplate(sales, "plan", "clicks").stdout
    assert bedplate(sales, "run", "clicks").returncode == 0
    assert ids(sales, "clicks") == good(30), "while it is held, nothing is read"
    assert as_json(sales, "data", "release", "clicks", "--reason", "good again") == {"table": "clicks", "version": "clicks@1"}
    done = bedplate(sales, "run", "clicks")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ids(sales, "clicks") == good(60)
    quarantine = as_json(sales, "data", "diff", "clicks_quarantine@commit:0", "clicks_quarantine")
    assert quarantine["rows_after"] == 6, "what did not fit was kept, and is not doubled"
    commits = as_json(sales, "data", "history", "clicks")
    assert (commits[0]["rows"], commits[1]["operation"], commits[1]["offsets"]) == (27, "RESTORE", {"0": 30})
    assert commits[0]["cut"] == "clicks@3"


def test_a_file_is_read_again_and_the_same_content_is_the_same_version(sales: Path) -> None:
    bedplate(sales, "data", "rollback", "sales", "--reason", "x")
    bedplate(sales, "data", "release", "sales", "--reason", "y")
    assert bedplate(sales, "run", "sales", "--force", "sales").returncode == 0
    assert ids(sales, "sales") == [2, 3, 4]
    assert as_json(sales, "data", "diff", "sales@1")["after"] == "sales@2"


def test_only_what_is_held_is_released(sales: Path) -> None:
    assert "no rollback holds the table (got 'sales')" in refused(sales, "data", "release", "sales", "--reason", "x")
    bedplate(sales, "data", "rollback", "sales", "--reason", "x")
    assert "needs a reason" in refused(sales, "data", "release", "sales", "--reason", "")
