"""`bedplate data history`: every commit of a table and the cuts that runs used; rows that did not fit lie in quarantine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, refused

PROJECT = """
project: shop
datasets:
  sales: {source: sales.csv, key: [id], known_at: at, columns: {id: int, at: timestamp, amount: float}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text(PROJECT)
    return tmp_path


def test_a_stream_s_commits_show_their_offsets_and_the_cut(whole: Path) -> None:
    commits = as_json(whole, "data", "history", "visits")
    assert commits[0]["cut"] == "visits@1"
    assert commits[0]["offsets"] == {"0": 601}
    assert sum(commit["rows"] for commit in commits) == 600
    assert bedplate(whole, "data", "history", "visits").stdout.splitlines()[0].split() == [*commits[0]]


def test_rows_that_do_not_fit_are_counted_and_kept_apart(shop: Path) -> None:
    (shop / "sales.csv").write_text("id,at,amount\n1,2024-01-01T00:00:00Z,3.5\n2,2024-01-01T00:00:00Z,much\nx,2024-01-01T00:00:00Z,1\n")
    assert "2 rows in quarantine" in bedplate(shop, "run", "sales").stdout
    assert sum(commit["rows"] for commit in as_json(shop, "data", "history", "sales")) == 1
    assert sum(commit["rows"] for commit in as_json(shop, "data", "history", "sales_quarantine")) == 2


def test_a_source_without_a_declared_column_fails_and_names_it(shop: Path) -> None:
    (shop / "sales.csv").write_text("id,at,amuont\n1,2024-01-01T00:00:00Z,3.5\n")
    done = bedplate(shop, "run", "sales")
    assert done.returncode == 1
    assert "'sales' declares a column that sales.csv does not have (got 'amount'). Fix: did you mean 'amuont'" in done.stdout


def test_a_source_that_is_not_there_is_named_before_anything_starts(shop: Path) -> None:
    done = bedplate(shop, "run", "sales")
    assert done.returncode == 1
    assert "the source file is missing (got 'sales.csv')" in done.stdout
    assert done.stdout.startswith("nothing was run\n")


def test_an_unknown_table_names_the_nearest(whole: Path, hello: Path) -> None:
    assert "did you mean 'visits'" in refused(whole, "data", "history", "visit")
    assert "no such table (got 'x'). Fix: none is declared" in refused(hello, "data", "history", "x")
