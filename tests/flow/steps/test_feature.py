"""The feature step: a view of a cut, the same for the same cut whatever came in since."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.data.features import open_view
from flow.steps import tables
from flow.world import said

pytestmark = pytest.mark.usefixtures("clean_imports")


def test_a_view_is_made_of_the_cut_that_the_step_was_given(tmp_path: Path) -> None:
    tables.write(tmp_path)
    sales = tables.ingested(tmp_path, "sales", tables.SALES)
    with (tmp_path / "sales.csv").open("a") as file:
        file.write("99,s1,2024-01-02T00:00:00Z,1000\n")
    later = tables.ingested(tmp_path, "sales2", {**tables.SALES, "source": "sales.csv"})
    assert said(later, "output")[0]["meta"]["rows"] == tables.ROWS + 1
    made = tables.view(tmp_path, sales)
    (output,) = said(made, "output")
    assert (output["name"], output["kind"], output["meta"]["rows"]) == ("shop_sales", "view", tables.ROWS)
    assert output["meta"]["features"] == ["shop_sales__amount__sum__1h", "shop_sales__amount__count__1h"]
    assert output["meta"]["definition"]["from"] == "sales"
    view = open_view(tmp_path / ".bedplate" / output["location"])
    assert (view.digest, view.name, view.entity) == (output["digest"], "shop_sales", ("shop",))
    assert Path(output["location"]).is_relative_to("runs/shop_sales-1/1"), "below the folder that carries the token"
