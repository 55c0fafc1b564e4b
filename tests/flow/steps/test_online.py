"""The online step: the store of an endpoint gives what training saw."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedplate.flow.online import open_store
from flow.steps import tables
from flow.world import said
from servers.testbed import databases
from servers.testbed.provide import provide

pytestmark = pytest.mark.usefixtures("clean_imports")


def test_the_store_answers_with_rows_and_features(tmp_path: Path) -> None:
    tables.write(tmp_path)
    visits, sales = tables.ingested(tmp_path, "visits", tables.VISITS), tables.ingested(tmp_path, "sales", tables.SALES)
    made = tables.store(tmp_path, visits, sales, tables.view(tmp_path, sales))
    (output,) = said(made, "output")
    assert (output["name"], output["kind"], output["meta"]) == (
        "prices.features",
        "online",
        {"features": ["shop_sales"], "epochs": {"visits": 1, "sales": 1}},
    )
    store = open_store(tmp_path / ".bedplate" / output["location"])
    row = store.row("visits", {"id": 8})
    assert row is not None and (row["shop"], row["size"]) == ("s0", 8.0)
    at = datetime(2024, 1, 1, 1, 20, tzinfo=UTC)
    assert store.features("shop_sales", {"shop": "s0"}, at, {"id": 8}) == {
        "shop_sales__amount__sum__1h": 6.0 + 4.0,
        "shop_sales__amount__count__1h": 2,
    }
    store.close()
    assert said(made, "progress")[-1]["unit"] == "entities"


def test_new_rows_are_applied_to_the_store_before(tmp_path: Path) -> None:
    tables.write(tmp_path)
    visits, sales = tables.ingested(tmp_path, "visits", tables.VISITS), tables.ingested(tmp_path, "sales", tables.SALES)
    first = tables.store(tmp_path, visits, sales)
    again = tables.store(tmp_path, visits, sales)
    (one,), (other,) = said(first, "output"), said(again, "output")
    assert one["digest"] == other["digest"], "the same cuts and definition"
    base = json.loads((tmp_path / ".bedplate" / "online" / "prices.features.json").read_text())
    assert base["location"] == other["location"]
    store = open_store(tmp_path / ".bedplate" / other["location"])
    assert {name: applied.rows for name, applied in store.applied().items()} == {"visits": tables.ROWS, "sales": tables.ROWS}
    store.close()


def test_a_file_with_other_rows_is_a_store_made_anew(tmp_path: Path) -> None:
    tables.write(tmp_path)
    visits, sales = tables.ingested(tmp_path, "visits", tables.VISITS), tables.ingested(tmp_path, "sales", tables.SALES)
    tables.store(tmp_path, visits, sales)
    (tmp_path / "visits.csv").write_text("id,shop,at,size\n1,s1,2024-01-01T00:00:00Z,7\n")
    changed = tables.store(tmp_path, tables.ingested(tmp_path, "visits", tables.VISITS), sales)
    (output,) = said(changed, "output")
    assert output["meta"]["epochs"] == {"visits": 2, "sales": 1}
    store = open_store(tmp_path / ".bedplate" / output["location"])
    assert store.applied()["visits"].rows == 1
    assert store.row("visits", {"id": 8}) is None
    store.close()


@pytest.mark.parametrize("database", ["redis", "postgres"])
def test_a_store_in_a_database_is_named_by_its_version(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with provide(getattr(databases, database)()) as server:
        monkeypatch.setenv("STORE_PASSWORD", server.password)
        address = server.url.replace(server.password, "${STORE_PASSWORD}")
        tables.write(tmp_path)
        visits, sales = tables.ingested(tmp_path, "visits", tables.VISITS), tables.ingested(tmp_path, "sales", tables.SALES)
        places = []
        for _ in range(2):
            (output,) = said(tables.store(tmp_path, visits, sales, address=address), "output")
            location = tmp_path / ".bedplate" / output["location"]
            places.append(location.read_text())
            assert server.password not in places[-1]
            store = open_store(location)
            row = store.row("visits", {"id": 8})
            assert row is not None and row["size"] == 8.0
            store.close()
        assert places[0] == places[1], "nothing changed, so nothing was made anew"
