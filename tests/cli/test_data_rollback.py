"""`bedplate data rollback`: the table is what it was, for the plan and for every reader, and stays so."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused
from cli.sales import good, ids


def steps(folder: Path) -> dict[str, tuple[str, str]]:
    return {step["step"]["name"]: (step["verdict"], step["why"]) for step in as_json(folder, "plan")["steps"]}


def test_a_table_goes_back_and_is_held_there(sales: Path) -> None:
    assert as_json(sales, "data", "rollback", "sales", "--reason", "2.5 is wrong") == {"version": "sales@1", "from": "sales@2"}
    assert ids(sales, "sales") == [1, 2, 3], "for whoever reads the newest commit"
    verdict, why = steps(sales)["sales"]
    assert verdict == "fresh"
    assert why.startswith("held at sales@1 by ")
    assert why.endswith(": 2.5 is wrong")
    assert as_json(sales, "data", "diff", "sales@1")["after"] == "sales@1", "it is that version now"
    commits = as_json(sales, "data", "history", "sales")
    assert commits[0]["operation"] == "RESTORE"


def test_what_depends_on_it_is_what_it_was_with_that_version(sales: Path) -> None:
    before = steps(sales)["totals"]
    bedplate(sales, "data", "rollback", "sales@1", "--reason", "x")
    after = steps(sales)["totals"]
    assert (before[1].split()[0], after[1].split()[0]) == ("totals@2", "totals@1"), "made of that version before: nothing to do"
    declared = (sales / "bedplate.yaml").read_text()
    (sales / "bedplate.yaml").write_text(declared.replace("[1d]", "[2d]"))
    done = bedplate(sales, "run", "totals")
    assert done.returncode == 0, done.stdout + done.stderr
    way = bedplate(sales, "lineage", "totals@3").stdout
    assert "sales@1" in way
    assert "sales@2" not in way


def test_what_cannot_be_is_named(sales: Path) -> None:
    assert "declares no such dataset (got 'sale'). Fix: did you mean 'sales'" in refused(sales, "data", "rollback", "sale", "--reason", "x")
    assert "at that version already (got 'sales@2')" in refused(sales, "data", "rollback", "sales@2", "--reason", "x")
    assert "no run made a version of that commit" in refused(sales, "data", "rollback", "sales@commit:0", "--reason", "x")
    assert "needs a reason" in refused(sales, "data", "rollback", "sales@1", "--reason", " ")
    bedplate(sales, "data", "rollback", "sales", "--reason", "x")
    assert "no version to go back to (got 'sales@1')" in refused(sales, "data", "rollback", "sales", "--reason", "x")
    assert bedplate(sales, "data", "rollback", "sales").returncode == 2, "the reason is not optional"


def test_all_tables_go_back_to_a_snapshot_at_once(sales: Path) -> None:
    bedplate(sales, "data", "rollback", "sales@1", "--reason", "x")
    bedplate(sales, "data", "rollback", "clicks@1", "--reason", "x")
    bedplate(sales, "data", "snapshot", "monday")
    for name in ("sales", "clicks"):
        assert bedplate(sales, "data", "rollback", f"{name}@2", "--reason", "y").returncode == 0
    moved = as_json(sales, "data", "rollback", "snapshot:monday", "--reason", "z")
    assert moved == [{"version": "clicks@1", "from": "clicks@2"}, {"version": "sales@1", "from": "sales@2"}]
    assert (ids(sales, "sales"), ids(sales, "clicks")) == ([1, 2, 3], good(30))
    again = bedplate(sales, "data", "rollback", "snapshot:monday", "--reason", "z")
    assert again.stdout == "every table is at that snapshot already\n"
    assert "no such snapshot (got 'mondy')" in refused(sales, "data", "rollback", "snapshot:mondy", "--reason", "z")
