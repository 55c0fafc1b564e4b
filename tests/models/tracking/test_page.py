"""The page that compares runs: it needs nothing else, and nothing in it is a run's to execute."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from bedplate.models.tracking.page import Axis, curve_plot, page, parallel_plot, shown

AXES = [
    Axis("lr", ("0.1", "0.2", "0.3")),
    Axis("optimizer", ("adam", "sgd", "adam")),
    Axis("loss", (0.5, None, 0.25)),
    Axis("same", ("x", "x", "x")),
]


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """The points of each polyline."""
    found = [element.get("points", "") for element in ElementTree.fromstring(svg).iter() if element.tag == "polyline"]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in text.split())] for text in found]


def test_each_run_is_a_line_through_every_axis() -> None:
    drawn = lines(parallel_plot(AXES))
    assert [len(line) for line in drawn] == [4, 4, 4]
    low, middle, high = (line[0][1] for line in drawn)
    assert low > middle > high, "a greater number lies higher"
    assert drawn[0][1] == drawn[2][1] != drawn[1][1], "equal texts lie together"
    assert len({line[3] for line in drawn}) == 1


def test_curves_leave_out_what_is_no_number() -> None:
    drawn = lines(curve_plot([[(0, 1.0), (1, math.nan), (2, 3.0)], [(0, 2.0), (2, math.inf)]]))
    assert [len(line) for line in drawn] == [2, 1]
    assert drawn[0][0][0] < drawn[0][1][0]
    assert drawn[0][0][1] > drawn[1][0][1] > drawn[0][1][1]
    assert "no finite value" in curve_plot([[(0, math.nan)]])


def test_the_page_is_whole_and_fetches_nothing() -> None:
    curves = {"loss": [[(0, 1.0), (1, 0.5)], [], []], "once": [[(0, 1.0)], [], []]}
    text = page("flights: 3 runs", ["a", "b", "c"], AXES, curves)
    assert not re.search(r"(src|href)=|https?://|@import|url\(", text)
    assert text.count("<svg") == 2, "where they differ, and the one metric that has a curve"
    assert text.count("<tr class=differs>") == 3
    assert text.count("data-key=") == 3
    for value in ("0.1", "adam", "0.25", "optimizer", "<h2>loss</h2>"):
        assert value in text


def test_what_runs_are_called_is_only_text() -> None:
    evil = '<script>alert("x")</script>'
    text = page(evil, [evil, "b"], [Axis(evil, (evil, "y")), Axis("z", ("1", "2"))], {evil: [[(0, 1.0), (1, 2.0)], []]})
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


def test_one_run_and_nothing_that_differs() -> None:
    text = page("t", ["a", "b"], [Axis("same", ("x", "x"))], {})
    assert "<svg" not in text
    assert [shown(value) for value in (None, "x", 0.123456789)] == ["", "x", "0.123457"]
