"""The page: well-formed, self-contained, and with axes and units."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bedplate.train.doctor.page import MOST_BARS, Section, bars, page, stacked, table


def svg(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def test_the_page_needs_nothing_else_and_is_readable_in_light_and_dark() -> None:
    text = page("Doctor: fit <3>", "<p>lead</p>", [Section("One & two", "<p>body</p>")])
    assert "prefers-color-scheme: dark" in text
    assert "Doctor: fit &lt;3&gt;" in text and "One &amp; two" in text
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)


def test_stacked_bars_stand_on_one_another_to_their_full_height() -> None:
    drawn = svg(stacked({"compute": [2.0, 4.0], "input": [2.0, 0.0]}, ["1", "2"], across="steps", unit="ms a step"))
    rects = [element for element in drawn if element.tag == "rect"]
    assert [rect.find("title").text for rect in rects if rect.find("title") is not None] == [
        "1: compute 2 ms a step", "1: input 2 ms a step", "2: compute 4 ms a step",
    ]  # fmt: skip
    first, second, third = ((float(rect.get("y", 0)), float(rect.get("height", 0))) for rect in rects)
    assert abs(first[0] - (second[0] + second[1])) < 0.2, "the second stands on the first"
    assert abs(second[0] - third[0]) < 0.2, "both bars are as high as the highest"
    texts = [element.text for element in drawn if element.tag == "text"]
    assert "steps; height in ms a step" in texts and "4" in texts


def test_bars_are_as_long_as_their_values_say() -> None:
    drawn = svg(bars([("worker 3", 1.4), ("worker 1", 1.1)], unit="x", zero=1.0))
    long, short = (float(element.get("width", 0)) for element in drawn if element.tag == "rect")
    assert abs(long / short - 4.0) < 0.01
    assert "1.4 x" in [element.text for element in drawn]


def test_a_great_many_bars_are_cut_and_none_is_no_error() -> None:
    assert sum(element.tag == "rect" for element in svg(bars([(str(each), 1.0) for each in range(1000)], unit="s"))) == MOST_BARS
    assert svg(bars([], unit="s")) is not None
    assert svg(stacked({}, [], across="steps", unit="ms")) is not None


def test_what_is_shown_cannot_become_markup() -> None:
    assert "<b>" not in table(("a",), [("<b>bold</b>",)]) and "&lt;b&gt;" in table(("a",), [("<b>bold</b>",)])
    assert "<i>" not in bars([("<i>", 1.0)], unit="s")
