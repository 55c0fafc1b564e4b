"""The transform step in a whole project: queries over queries, functions, what the plan says, and features of what was made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from cli.kit import as_json, bedplate

PROJECT = """
project: shop
datasets:
  shops: {source: shops.csv, columns: {shop: string, town: string}, key: [shop]}
  sales: {source: "log://sales", columns: {shop: string, amount: float, day: timestamp}, known_at: day}
  large:
    sql: SELECT * EXCLUDE (_known_at), amount * 100 AS cents FROM sales WHERE amount >= 10
    expect: [{range: {column: amount, min: 10}}]
  towns:
    sql: |
      SELECT town, sum(cents) AS cents
      FROM large JOIN shops USING (shop) GROUP BY town
    key: [town]
  ranked: {python: "ranked.py:ranked", reads: [towns]}
features:
  by_shop: {from: large, entity: shop, windows: [24h], aggregates: {amount: [sum]}}
"""
CODE = """
import pyarrow as pa
import pyarrow.compute as pc


def ranked(towns):
    order = pc.sort_indices(towns, [("cents", "descending")])
    return towns.take(order).append_column("rank", pa.array(range(1, towns.num_rows + 1))).drop_columns(["_known_at"])
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text(PROJECT)
    (tmp_path / "ranked.py").write_text(CODE)
    (tmp_path / "shops.csv").write_text("shop,town\na,Here\nb,There\n")
    sell(tmp_path, ("a", 10.0), ("b", 5.0), ("b", 30.0))
    return tmp_path


def sell(folder: Path, *sales: tuple[str, float]) -> None:
    log = Log(folder / ".bedplate" / "log" / "sales", SystemClock())
    values = [json.dumps({"shop": shop, "amount": amount, "day": "2026-01-01"}).encode() for shop, amount in sales]
    log.append(values, producer="p", sequence=log.next_sequence("p"))


def rows(folder: Path, name: str) -> list[dict[str, object]]:
    table = Lake(folder / ".bedplate" / "lake").read(name)
    return table.select([column for column in table.column_names if not column.startswith("_")]).to_pylist()


def test_datasets_are_made_of_datasets_and_only_of_what_changed(shop: Path) -> None:
    planned = bedplate(shop, "plan").stdout
    assert "large: incremental: only rows that came since are read" in planned
    assert "towns: full, as it joins" in planned
    assert "ranked: full, as a function may read any row" in planned
    assert bedplate(shop, "up").returncode == 0
    assert rows(shop, "large") == [{"shop": s, "amount": a, "day": d, "cents": a * 100} for s, a, d in sold(shop) if a >= 10]
    assert rows(shop, "ranked") == [{"town": "Here", "cents": 1000.0, "rank": 2}, {"town": "There", "cents": 3000.0, "rank": 1}]
    assert "nothing was run" in bedplate(shop, "up").stdout
    sell(shop, ("a", 90.0))
    assert bedplate(shop, "up").returncode == 0
    assert as_json(shop, "data", "history", "large")[0]["rows"] == 1, "one row was added"
    assert [row["town"] for row in sorted(rows(shop, "ranked"), key=lambda row: int(str(row["rank"])))] == ["Here", "There"]
    lineage = bedplate(shop, "lineage", "ranked@2").stdout
    assert all(name in lineage for name in ("ranked@2", "towns@2", "large@2", "sales@2", "shops@1"))
    (shop / "ranked.py").write_text(CODE.replace("range(1, ", "range(2, 1 + "))
    assert bedplate(shop, "run", "ranked").returncode == 0
    assert {row["rank"] for row in rows(shop, "ranked")} == {2, 3}


def sold(folder: Path) -> list[tuple[str, float, object]]:
    table = Lake(folder / ".bedplate" / "lake").read("sales")
    return list(zip(table["shop"].to_pylist(), table["amount"].to_pylist(), table["day"].to_pylist(), strict=True))


def test_what_is_wrong_is_said_before_anything_runs(shop: Path) -> None:
    for old, new, said in (
        (
            "FROM sales WHERE",
            "FROM sale WHERE",
            "datasets.large.sql: it reads a dataset that is not declared (got 'sale'). Fix: did you mean 'sales'?",
        ),
        ("reads: [towns]", "reads: [town]", "datasets.ranked.reads: it reads a dataset that is not declared (got 'town')"),
        ("FROM large JOIN", "FROM ranked JOIN", "jobs or datasets start from one another"),
        ("SELECT * EXCLUDE", "SELCT * EXCLUDE", "datasets.large.sql: not a query"),
        (", reads: [towns]", "", "`reads` names the datasets that a `python` function is given"),
        ("    key: [town]", "    source: x.csv", "give exactly one of source, sql, python, not source and sql"),
        ("amount, min: 10}}]", "amount, min: 10}, otherwise: quarantine}]", "rows that are made are not set apart"),
    ):
        (shop / "bedplate.yaml").write_text(PROJECT.replace(old, new))
        told = bedplate(shop, "plan")
        assert told.returncode != 0
        assert said in told.stderr


def test_a_made_table_can_be_rolled_back_and_released(shop: Path) -> None:
    assert bedplate(shop, "run", "towns").returncode == 0
    sell(shop, ("b", 70.0))
    assert bedplate(shop, "run", "towns").returncode == 0
    assert bedplate(shop, "data", "rollback", "towns@1", "--reason", "the last sale was wrong").returncode == 0
    assert [row["cents"] for row in rows(shop, "towns")] == [1000.0, 3000.0]
    assert "nothing was run" in bedplate(shop, "run", "towns").stdout
    assert bedplate(shop, "data", "release", "towns", "--reason", "it was right").returncode == 0
    sell(shop, ("b", 10.0))
    assert bedplate(shop, "run", "towns").returncode == 0
    assert [row["cents"] for row in rows(shop, "towns")] == [1000.0, 11000.0]
