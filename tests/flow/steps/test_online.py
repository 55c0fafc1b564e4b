"""The online step: the store of an endpoint gives what training saw."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedplate.data.online import OnlineStore
from flow.steps import tables
from flow.world import said

pytestmark = pytest.mark.usefixtures("clean_imports")


def test_the_store_answers_with_rows_and_features(tmp_path: Path) -> None:
    tables.write(tmp_path)
    visits, sales = tables.ingested(tmp_path, "visits", tables.VISITS), tables.ingested(tmp_path, "sales", tables.SALES)
    made = tables.store(tmp_path, visits, sales, tables.view(tmp_path, sales))
    (output,) = said(made, "output")
    assert (output["name"], output["kind"], output["meta"]) == ("prices.features", "online", {"features": ["shop_sales"]})
    store = OnlineStore(tmp_path / ".bedplate" / output["location"])
    row = store.row("visits", {"id": 8})
    assert row is not None and (row["shop"], row["size"]) == ("s0", 8.0)
    at = datetime(2024, 1, 1, 1, 20, tzinfo=UTC)
    assert store.features("shop_sales", {"shop": "s0"}, at, {"id": 8}) == {
        "shop_sales__amount__sum__1h": 6.0 + 4.0,
        "shop_sales__amount__count__1h": 2,
    }
    store.close()
    assert said(made, "progress")[-1]["unit"] == "entities"
