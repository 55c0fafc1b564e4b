"""`bedplate data vacuum`: says what would go, and deletes it when told to."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused
from cli.sales import ids


def declare(folder: Path, retention: str) -> None:
    declared = (folder / "bedplate.yaml").read_text()
    (folder / "bedplate.yaml").write_text(declared.replace("{source: sales.csv,", f"{{source: sales.csv, retention: {retention},"))


def test_it_says_what_would_go_and_deletes_it_with_yes(sales: Path) -> None:
    declare(sales, "{versions: 1}")
    files = set((sales / ".bedplate" / "lake" / "sales").glob("*.parquet"))
    [would] = as_json(sales, "data", "vacuum")
    assert (would["table"], would["going"], would["held"], would["files"]) == ("sales", ["sales@1"], {}, 1)
    assert bedplate(sales, "data", "vacuum").stdout == f"sales: sales@1 would go, 1 files, {would['size_bytes']} bytes\n"
    assert set((sales / ".bedplate" / "lake" / "sales").glob("*.parquet")) == files, "nothing went yet"
    assert bedplate(sales, "data", "vacuum", "sales", "--yes").stdout == f"sales: sales@1 went, 1 files, {would['size_bytes']} bytes\n"
    left = set((sales / ".bedplate" / "lake" / "sales").glob("*.parquet"))
    assert len(files - left) == 1
    assert ids(sales, "sales") == [2, 3, 4]
    assert "sales@1 was removed" in refused(sales, "data", "diff", "sales@1")
    assert "sales@1 was removed" in refused(sales, "data", "rollback", "sales@1", "--reason", "x")
    assert bedplate(sales, "data", "vacuum", "--yes").stdout == "sales: no version went, 0 files, 0 bytes\n"


def test_what_is_held_stays_and_says_by_what(sales: Path) -> None:
    declare(sales, "{versions: 1}")
    bedplate(sales, "data", "tag", "sales@1", "golden")
    assert bedplate(sales, "data", "vacuum", "--yes").stdout.splitlines()[1] == "  sales@1 stays: tag golden"
    assert ids(sales, "sales", 1) == [1, 2, 3]


def test_only_a_declared_retention_is_applied(sales: Path) -> None:
    assert bedplate(sales, "data", "vacuum").stdout == "no dataset declares a retention\n"
    assert "add `retention: {versions: 30, age: 90d}` to datasets.clicks" in refused(sales, "data", "vacuum", "clicks")
    assert "did you mean 'sales'" in refused(sales, "data", "vacuum", "sale")
    declare(sales, "{age: soon}")
    assert "datasets.sales.retention.age: not a duration (got 'soon')" in refused(sales, "data", "vacuum")


def test_a_retention_changes_no_step(sales: Path) -> None:
    declare(sales, "{versions: 5, age: 90d}")
    assert {step["verdict"] for step in as_json(sales, "plan")["steps"]} == {"fresh"}


def test_who_was_affected_is_still_told_when_versions_went(sales: Path) -> None:
    declare(sales, "{versions: 1}")

    def tables(amount: float) -> list[str]:
        return [each["version"] for each in as_json(sales, "affected", "--where", f"amount={amount}")["tables"]]

    assert (tables(1.0), tables(3.0)) == (["sales@1"], ["sales@1", "sales@2"])
    bedplate(sales, "data", "vacuum", "--yes")
    assert (tables(1.0), tables(3.0)) == ([], ["sales@2"]), "no row is left of what went"
