"""`bedplate data diff`: versions named in every way, and what differs between them for people and as JSON."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_file_s_versions_by_key(sales: Path) -> None:
    found = as_json(sales, "data", "diff", "sales@1", "sales@2", "--rows")
    assert (found["before"], found["after"], found["rows_before"], found["rows_after"]) == ("sales@1", "sales@2", 3, 3)
    assert {name: found["changes"][name] for name in ("added", "removed", "changed")} == {"added": 1, "removed": 1, "changed": 1}
    [pair] = found["changes"]["samples"]["changed"]
    assert (pair["before"]["id"], pair["before"]["amount"], pair["after"]["amount"]) == (2, 2.0, 2.5)
    assert as_json(sales, "data", "diff", "sales@1", "--rows") == found, "the other version is what the table is now"
    shown = bedplate(sales, "data", "diff", "sales@1", "--rows", "--samples", "0").stdout.splitlines()
    assert shown[0] == "sales@1 -> sales@2"
    assert shown[1].split() == ["rows", "3", "->", "3", "(+0)"]
    assert shown[-1] == "compared 1 added, 1 removed, 1 changed"


def test_a_stream_s_versions_tell_offsets_and_read_nothing(sales: Path) -> None:
    for path in (sales / ".bedplate" / "lake" / "clicks").glob("*.parquet"):
        path.write_bytes(b"nothing")
    found = as_json(sales, "data", "diff", "clicks@1")
    assert found["offsets"] == {"before": {"0": 30}, "after": {"0": 50}}
    assert (found["rows_before"], found["rows_after"], found["changes"]) == (27, 45, None)
    assert (found["files_kept"]["rows"], found["files_added"]["rows"], found["files_removed"]["count"]) == (27, 18, 0)
    assert "offset   partition 0: 30 -> 50" in bedplate(sales, "data", "diff", "clicks@1").stdout


def test_moments_tags_and_commits_name_versions(sales: Path) -> None:
    assert bedplate(sales, "data", "tag", "sales@1", "golden").returncode == 0
    assert as_json(sales, "data", "diff", "sales@golden", "sales@now")["before"] == "sales@1"
    assert bedplate(sales, "data", "diff", "sales@now").stdout.endswith("the same\n")
    first = as_json(sales, "data", "diff", "clicks_quarantine@commit:1", "clicks_quarantine")
    assert (first["before"], first["rows_after"], first["offsets"]["before"]) == ("clicks_quarantine@commit:1", 5, {})
    assert "had no version then (got '2001-01-01')" in refused(sales, "data", "diff", "sales@2001-01-01")


def test_what_is_no_version_is_named_with_the_fix(sales: Path) -> None:
    bedplate(sales, "data", "tag", "sales@1", "golden")
    assert "did you mean 'golden'" in refused(sales, "data", "diff", "sales@goldn")
    assert "no such version (got 'sales@9')" in refused(sales, "data", "diff", "sales@9")
    assert "no such table (got 'sale'). Fix: did you mean 'sales'" in refused(sales, "data", "diff", "sale@1")
    assert "has no such commit (got 'commit:99')" in refused(sales, "data", "diff", "sales@commit:99")
    assert "between two versions of one table (got 'clicks')" in refused(sales, "data", "diff", "sales@1", "clicks@1")
