"""`bedplate data tag`: a name for a version that stays, unless it is moved for a reason."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_tag_names_a_version_wherever_one_is_named(sales: Path) -> None:
    assert as_json(sales, "data", "tag", "sales@1", "golden") == {"version": "sales@1", "tag": "golden"}
    assert [commit["tags"] for commit in as_json(sales, "data", "history", "sales") if commit["cut"] == "sales@1"] == [["golden"]]
    assert bedplate(sales, "data", "tag", "sales", "newest").stdout == "sales@newest is sales@2\n"
    assert "sales@1" in bedplate(sales, "lineage", "sales@golden").stdout
    assert as_json(sales, "data", "rollback", "sales@golden", "--reason", "x")["version"] == "sales@1"


def test_a_tag_stays_unless_it_is_moved_with_a_reason(sales: Path) -> None:
    bedplate(sales, "data", "tag", "sales@1", "golden")
    assert bedplate(sales, "data", "tag", "sales@1", "golden").returncode == 0, "it points there: nothing changes"
    assert "points to sales@1 already (got 'sales@golden')" in refused(sales, "data", "tag", "sales@2", "golden")
    assert "needs a reason" in refused(sales, "data", "tag", "sales@2", "golden", "--move")
    assert bedplate(sales, "data", "tag", "sales@2", "golden", "--move", "--reason", "better").returncode == 0
    assert as_json(sales, "data", "diff", "sales@golden", "sales@2")["before"] == "sales@2"


def test_names_that_could_be_taken_for_others_and_commits_are_refused(sales: Path) -> None:
    for name in ("7", "2026-11-01", "now", "Golden", "two words"):
        assert f"(got {name!r}). Fix: for example golden" in refused(sales, "data", "tag", "sales@1", name)
    assert "no run made a version of that commit (got 'sales@commit:0')" in refused(sales, "data", "tag", "sales@commit:0", "golden")
