"""The report: what a person reads holds the figures, and JSON the same."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bedplate.hardware.catalog.reader import device
from bedplate.train.planner.cost import Bill, bill
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.presets import preset
from bedplate.train.planner.report import Report
from bedplate.train.planner.search import Loser, search

WORK = Work(preset("llama3-70b"), 8192, 512)


def report(devices: int = 64) -> Report:
    cluster = Cluster(device("H100-SXM"), devices)
    found = search(WORK, cluster)
    return Report(WORK, cluster, found, bill(cluster, found.best[0], 1e12) if found.best else None, ("mind this",))


def test_the_text_has_the_best_its_parts_the_others_the_bill_and_remarks() -> None:
    asked = report()
    text = asked.text()
    best = asked.found.best[0]
    assert "llama3-70b, 70.55 billion parameters, on 64 x H100-SXM" in text
    assert f"the best: {best.layout.text()}" in text
    for part in ("parameters", "gradients", "optimizer", "activations", "buffers", "compute", "tensor communication", "bubble"):
        assert part in text
    assert "why the others lose:" in text
    assert "data=64 " in text
    assert "does not fit: " in text
    assert "1e+12 tokens: " in text
    assert "kWh" in text
    assert "note: mind this" in text


def test_where_nothing_fits_the_text_says_so_and_by_how_much() -> None:
    text = report(devices=8).text()
    assert "No mesh fits in 75 GiB a device." in text
    assert "GiB too much" in text
    assert "USD" not in text


def test_json_has_every_mesh() -> None:
    asked = report()
    found = json.loads(json.dumps(asked.to_json()))
    assert [each["mesh"] for each in found["best"]] == [each.layout.axes() for each in asked.found.best]
    assert len(found["others"]) == len(asked.found.losers)
    assert found["model"]["parameters"] == WORK.shape.parameters
    assert found["bill"]["tokens"] == 1e12
    assert found["remarks"] == ["mind this"]


ASKED = report()


@pytest.mark.parametrize(
    ("time_s", "took"), [(90.0, "1 min 30 s"), (7 * 3600.0, "7 h 0 min"), (2 * 86400.0, "2.0 days"), (1500 * 86400.0, "1,500.0 days")]
)
def test_a_bill_is_told_in_a_line_with_where_its_price_comes_from(time_s: float, took: str) -> None:
    owed = Bill(2.5e11, time_s, 1234.4, 5678.6, 910.1, 2.5, "as given")
    text = dataclasses.replace(ASKED, bill=owed).text()
    line = next(line for line in text.splitlines() if line.startswith("2.5e+11 tokens: "))
    assert line.startswith(f"2.5e+11 tokens: {took}, 1,234 device hours, 5,679 USD, 910 kWh (at 2.50 USD a device hour, as given;")
    assert "an estimate" in line
    assert "USD" not in dataclasses.replace(ASKED, bill=None).text()


def test_the_table_has_a_row_for_each_of_the_best_in_columns_that_line_up() -> None:
    lines = ASKED.text().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("mesh "))
    rows = lines[start + 1 : start + 1 + len(ASKED.found.best)]
    for row, best in zip(rows, ASKED.found.best, strict=True):
        assert row.startswith(best.layout.text())
        assert f"{best.memory.total_bytes / 2**30:.1f} GiB" in row and f"{best.tokens_per_s_per_device:,.0f}" in row
        assert row[lines[start].index("recompute") :].split()[0] == best.layout.recompute
        assert row[lines[start].index("micro-batch") :].split()[0] == str(best.layout.micro_batch)
    assert lines[start + 1 + len(rows)] == ""


def test_shares_of_a_step_that_are_told_make_up_all_of_it() -> None:
    line = next(line for line in ASKED.text().splitlines() if line.startswith("  time of a step: "))
    shares = [float(part.split("(")[1].split("%")[0]) for part in line.split(", ")]
    assert sum(shares) == pytest.approx(100, abs=0.06 * len(shares))
    assert "input" not in line and "expert communication" not in line, "what takes no time is left out"


def test_of_many_meshes_the_nearest_are_told_and_the_others_counted() -> None:
    slower = tuple(Loser(Layout(data=2, tensor=size), f"slower {size}", 0.0, 1.0) for size in range(2, 12))
    simple = Loser(Layout(data=64), "copies do not fit", 5e12, None)
    unfit = tuple(Loser(Layout(data=3, pipeline=size), f"lacks {size}", size * 1e9, None) for size in range(2, 12))
    text = dataclasses.replace(ASKED, found=dataclasses.replace(ASKED.found, losers=(*slower, *unfit, simple))).text()
    assert [f"slower {size}" in text for size in range(2, 12)] == [True] * 6 + [False] * 4
    assert "  data=64            copies do not fit" in text, "what one would try first"
    assert [f"lacks {size}" in text for size in range(2, 12)] == [True] * 5 + [False] * 5
    assert "  and 9 more (--json lists them)" in text
    alone = dataclasses.replace(ASKED, found=dataclasses.replace(ASKED.found, losers=()))
    assert "why the others lose" not in alone.text() and " more (" not in alone.text()
