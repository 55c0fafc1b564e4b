"""The training-set step: spine, label and features in shards that the feed reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bedplate.data.feed import ShardFeed
from flow.steps import tables
from flow.world import said

pytestmark = pytest.mark.usefixtures("clean_imports")


def test_the_shards_hold_spine_label_and_features_as_of_each_row(tmp_path: Path) -> None:
    tables.write(tmp_path)
    visits, sales = tables.ingested(tmp_path, "visits", tables.VISITS), tables.ingested(tmp_path, "sales", tables.SALES)
    made = tables.training(tmp_path, visits, sales, tables.view(tmp_path, sales))
    (output,) = said(made, "output")
    assert (output["name"], output["kind"], output["meta"]["rows"]) == ("fit.inputs", "training_set", tables.ROWS)
    assert output["meta"]["splits"] == {"train": 14, "valid": 2, "test": 4, "unlabelled": 0}
    feed = ShardFeed(tmp_path / ".bedplate" / output["location"])
    assert feed.schema.label == "amount"
    train = feed.columns("train")
    assert train["amount"].tolist() == [float(n) for n in range(14)]
    # within (T - 1h, T] a shop has 3 sales, every 20 minutes; a row's own sale is not seen
    sums = [n - 2 + n - 4 if n >= 4 else n - 2 if n >= 2 else 0 for n in range(14)]
    assert np.nan_to_num(train["shop_sales__amount__sum__1h"]).tolist() == [float(value) for value in sums]
    assert said(made, "progress")[-1]["done"] == tables.ROWS
