"""`bedplate data snapshot`: one name for the versions of everything, that other commands know."""

from __future__ import annotations

import json
from pathlib import Path

from cli.kit import as_json, bedplate, refused
from cli.sales import SECOND, sell


def test_a_snapshot_pins_tables_and_views_and_is_read_by_name(sales: Path) -> None:
    bedplate(sales, "data", "rollback", "sales@1", "--reason", "x")
    taken = as_json(sales, "data", "snapshot", "monday", "--out", "manifest.json")
    assert {name: pin["version"] for name, pin in taken["pinned"].items()} == {
        "clicks": "clicks@2",
        "sales": "sales@1",
        "totals": "totals@1",
    }
    assert json.loads((sales / "manifest.json").read_text()) == taken
    bedplate(sales, "data", "rollback", "sales@2", "--reason", "y")
    bedplate(sales, "data", "snapshot", "friday")
    assert as_json(sales, "data", "diff", "sales@snapshot:monday", "--rows")["changes"]["changed"] == 1
    differing = as_json(sales, "data", "diff", "snapshot:monday", "snapshot:friday")
    assert [(each["name"], each["before"], each["after"]) for each in differing["moved"]] == [
        ("sales", "sales@1", "sales@2"),
        ("totals", "totals@1", "totals@2"),
    ]
    shown = bedplate(sales, "data", "diff", "snapshot:monday", "snapshot:friday").stdout
    assert shown.splitlines()[1].split() == ["sales", "sales@1", "->", "sales@2"]
    assert as_json(sales, "data", "rollback", "sales@snapshot:monday", "--reason", "z")["version"] == "sales@1"


def test_a_plan_and_a_run_at_a_snapshot_read_what_it_pins(sales: Path) -> None:
    bedplate(sales, "data", "snapshot", "monday")
    sell(sales, (*SECOND, (9, 90.0)))
    today = {step["step"]["name"]: step["verdict"] for step in as_json(sales, "plan", "totals")["steps"]}
    assert today == {"sales": "run", "totals": "waits"}
    planned = bedplate(sales, "plan", "totals", "--at", "monday").stdout
    assert "sales@2 is pinned by the snapshot monday" in planned
    assert "0 to run, 0 wait for them, 2 up to date" in planned
    declared = (sales / "bedplate.yaml").read_text()
    (sales / "bedplate.yaml").write_text(declared.replace("[1d]", "[2d]"))
    (run,) = as_json(sales, "run", "totals", "--at", "monday")["runs"]
    assert run["outputs"] == ["totals@3"]
    assert "sales@2" in bedplate(sales, "lineage", "totals@3").stdout
    assert "sales@3" not in bedplate(sales, "data", "history", "sales").stdout, "nothing was ingested"
    assert as_json(sales, "plan", "totals")["steps"][0]["verdict"] == "run", "the project itself is where it was"
    for command in ("plan", "run"):
        told = refused(sales, command, "totals", "--at", "mondy")
        assert "no such snapshot (got 'mondy'). Fix: did you mean 'monday'" in told


def test_what_is_not_there_is_named(sales: Path) -> None:
    bedplate(sales, "data", "snapshot", "monday")
    assert "no such snapshot (got 'mondy'). Fix: did you mean 'monday'" in refused(sales, "data", "diff", "sales@snapshot:mondy")
    assert "pins no version of that table" in refused(sales, "data", "diff", "clicks_quarantine@snapshot:monday")
    assert "needs another to compare with" in refused(sales, "data", "diff", "snapshot:monday")
    assert "for example monday" in refused(sales, "data", "snapshot", "Black Friday")
