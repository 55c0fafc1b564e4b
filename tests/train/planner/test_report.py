"""The report: what a person reads holds the figures, and JSON the same."""

from __future__ import annotations

import json

from bedplate.hardware.catalog.reader import device
from bedplate.train.planner.cost import bill
from bedplate.train.planner.layout import Cluster, Work
from bedplate.train.planner.presets import preset
from bedplate.train.planner.report import Report
from bedplate.train.planner.search import search

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
