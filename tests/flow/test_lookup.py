"""Lookups: from a request to the row that the model is given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bedplate.core.clock import SimClock
from bedplate.core.errors import DataError, NotFound
from bedplate.data.on_demand import OnDemandView
from bedplate.flow.lookup import Lookup
from bedplate.flow.online import open_store
from bedplate.serve.gateway import Field, Looked
from flow.steps import tables
from flow.world import as_inputs

NOW_S = datetime(2024, 1, 1, 5, tzinfo=UTC).timestamp()
AT_8 = datetime(2024, 1, 1, 1, 20, tzinfo=UTC)
SPEC = {
    "inputs": tables.INPUTS.model_dump(mode="json"),
    "spine": tables.VISITS,
    "views": {"shop_sales": {"entity": ["shop"], "dataset": "sales", "key": ["id"]}},
}


@pytest.fixture
def lookup(tmp_path: Path, clean_imports: None) -> Lookup:
    tables.write(tmp_path)
    visits, sales = tables.ingested(tmp_path, "visits", tables.VISITS), tables.ingested(tmp_path, "sales", tables.SALES)
    store = as_inputs(tables.store(tmp_path, visits, sales, tables.view(tmp_path, sales)))["prices.features"]
    return Lookup(open_store(Path(store["path"])), SPEC, {"prices.features": "prices.features@1"}, SimClock(NOW_S))


def test_a_key_leads_to_the_row_that_training_saw(lookup: Lookup) -> None:
    row = {"size": 8.0, "shop_sales__amount__sum__1h": 10.0, "shop_sales__amount__count__1h": 2.0}
    (found,) = lookup([{"id": 8}])
    assert found == Looked(row, {"prices.features": "prices.features@1"}, AT_8.timestamp()), "without the sale of the row itself"


def test_a_key_that_is_not_there_or_of_another_type_is_refused(lookup: Lookup) -> None:
    with pytest.raises(NotFound, match=r"'visits' has no row with this key.*ask for a row that is in 'visits'"):
        lookup([{"id": 8}, {"id": 999}])
    with pytest.raises(DataError):
        lookup([{"id": "eight"}])


def test_a_row_in_which_nothing_is_known_has_every_column(lookup: Lookup) -> None:
    assert set(lookup.empty_row()) == {"size", "shop_sales__amount__sum__1h", "shop_sales__amount__count__1h"}


def test_many_requests_are_looked_up_in_order(lookup: Lookup) -> None:
    found = lookup([{"id": number} for number in (8, 3, 8)])
    assert [each.row["size"] for each in found] == [8.0, 3.0, 8.0]
    assert [each.as_of_s for each in found] == [AT_8.timestamp(), AT_8.timestamp() - 3000, AT_8.timestamp()]


def test_what_a_request_brings_takes_the_place_of_what_is_stored(lookup: Lookup) -> None:
    (found,) = lookup([{"id": 8, "size": 80, "shop": "s1"}])
    assert found.row == {"size": 80.0, "shop_sales__amount__sum__1h": 3.0 + 5.0 + 7.0, "shop_sales__amount__count__1h": 3.0}


def test_a_request_that_brings_all_is_answered_as_of_now(lookup: Lookup) -> None:
    (found,) = lookup([{"id": 999, "size": 1.5, "shop": "s1"}])
    assert found == Looked(
        {"size": 1.5, "shop_sales__amount__sum__1h": 0.0, "shop_sales__amount__count__1h": 0.0},
        {"prices.features": "prices.features@1"},
        NOW_S,
    )
    with pytest.raises(NotFound, match="or send shop too"):
        lookup([{"id": 999, "size": 1.5}])


def test_the_fields_of_a_request_are_the_key_and_what_it_may_bring(lookup: Lookup) -> None:
    assert lookup.fields == (Field("id", "int"), Field("shop", "string", required=False), Field("size", "float", required=False))


def test_functions_run_once_over_a_call_with_what_is_stored_brought_and_looked_up(lookup: Lookup) -> None:
    calls = []

    def ratio(columns: Mapping[str, pa.Array[Any]]) -> dict[str, pa.Array[Any]]:
        calls.append({name: (str(values.type), len(values)) for name, values in columns.items()})
        return {"ratio": pc.divide(columns["size"], columns["shop_sales__amount__sum__1h"])}

    def double(columns: Mapping[str, pa.Array[Any]]) -> dict[str, pa.Array[Any]]:
        return {"double": pc.multiply(columns["f__ratio"], 2)}

    first = OnDemandView("f", ("size", "shop_sales__amount__sum__1h"), (("ratio", "float"),), ratio)
    second = OnDemandView("g", ("f__ratio",), (("double", "float"),), double)
    both = Lookup(lookup._store, SPEC, {}, SimClock(NOW_S), [first, second])
    found = both([{"id": 8}, {"id": 8, "size": 80.0}])
    assert [(each.row["f__ratio"], each.row["g__double"]) for each in found] == [(0.8, 1.6), (8.0, 16.0)]
    assert calls == [{"size": ("double", 2), "shop_sales__amount__sum__1h": ("double", 2)}]
    assert {"f__ratio", "g__double"} <= set(both.empty_row())
