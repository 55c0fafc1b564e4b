"""`bedplate data check`, and what a launch makes of rules that do not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, refused

PROJECT = """
project: shop
datasets:
  sales:
    source: sales.csv
    key: [id]
    columns: {{id: int, amount: float}}
    expect:
      - {{not_null: amount, otherwise: quarantine}}
      - {{range: {{column: amount, max: 100}}, otherwise: warn}}
      - {{unique: id, otherwise: {unique}}}
  plain: {{source: sales.csv}}
"""
HELD = "id,amount\n1,5\n2,500\n3,\n"
BROKEN = "id,amount\n1,5\n2,50\n2,7\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text(PROJECT.format(unique="stop"))
    (tmp_path / "sales.csv").write_text(HELD)
    return tmp_path


def test_a_version_is_accepted_with_warnings_and_none_while_a_rule_stops(shop: Path) -> None:
    said = bedplate(shop, "run", "sales").stdout
    assert "1 row in quarantine" in said
    assert "warning: expected amount in ..100, found 1 of 2 rows that break it" in said
    told = as_json(shop, "data", "check", "sales")
    assert (told["version"], [(each["held"], each["quarantined"]) for each in told["expectations"]]) == (
        "sales@1",
        [(True, 1), (False, 0), (True, 0)],
    )
    assert [each["found"] for each in told["recorded"]] == [each["found"] for each in told["expectations"]]
    assert told["expectations"][1]["samples"] == [{"_partition": "0", "_offset": "1", "id": "2", "amount": "500.0"}]

    (shop / "sales.csv").write_text(BROKEN)
    done = bedplate(shop, "run", "sales")
    assert done.returncode == 1
    assert "expected id unique, found 1 of 3 rows that repeat one (for example id 2, times 2)" in done.stdout
    assert bedplate(shop, "data", "check", "sales@2").returncode == 1  # there is no second version

    now = bedplate(shop, "data", "check", "sales")
    assert (now.returncode, now.stdout.splitlines()[0]) == (1, "sales: rows that no version has")
    assert "rows that break: id unique" in now.stdout
    before = bedplate(shop, "data", "check", "sales@1")
    assert (before.returncode, before.stdout.splitlines()[0]) == (0, "sales@1")

    (shop / "bedplate.yaml").write_text(PROJECT.format(unique="warn"))
    assert bedplate(shop, "run", "sales").returncode == 0
    told = as_json(shop, "data", "check", "sales")
    assert (told["version"], told["recorded"][2]["held"]) == ("sales@2", False)
    assert "nothing was run" in bedplate(shop, "run", "sales").stdout


def test_what_cannot_be_checked_is_named(shop: Path) -> None:
    assert "the dataset was never ingested (got 'sales'). Fix: bedplate run sales" in refused(shop, "data", "check", "sales")
    assert "did you mean 'sales'" in refused(shop, "data", "check", "sale")
    assert "nothing is expected of the dataset (got 'plain')" in refused(shop, "data", "check", "plain")


def test_a_column_that_is_not_declared_is_an_error_of_the_project_file(shop: Path) -> None:
    text = (shop / "bedplate.yaml").read_text().replace("unique: id", "unique: [id, amuont]")
    (shop / "bedplate.yaml").write_text(text)
    said = refused(shop, "plan")
    assert ":11: datasets.sales.expect.2.unique: dataset 'sales' declares no such column (got 'amuont'). Fix: did you mean 'amount'" in said
