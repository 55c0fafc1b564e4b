"""`bedplate data checkout`: a version as a file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from cli.kit import as_json, bedplate, refused


def test_a_version_becomes_a_file(sales: Path) -> None:
    told = as_json(sales, "data", "checkout", "sales@1", "--out", "then.parquet")
    assert told == {"version": "sales@1", "file": "then.parquet", "rows": 3}
    assert pq.read_table(sales / "then.parquet").to_pydict()["amount"] == [1.0, 2.0, 3.0]
    assert "the file is there already (got 'then.parquet')" in refused(sales, "data", "checkout", "sales@2", "--out", "then.parquet")
    assert bedplate(sales, "data", "checkout", "sales", "--out", "then.parquet", "--replace").returncode == 0
    assert pq.read_table(sales / "then.parquet").to_pydict()["amount"] == [2.5, 3.0, 4.0]


def test_an_unknown_ending_names_those_that_are_known(sales: Path) -> None:
    assert "Fix: end it in .parquet, .csv, .arrow" in refused(sales, "data", "checkout", "sales@1", "--out", "then.txt")
    assert not (sales / "then.txt").exists()
