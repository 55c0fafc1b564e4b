"""The page: well-formed, self-contained, and with axes and units."""

from __future__ import annotations

import re
from itertools import pairwise
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


def texts(drawn: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in drawn if element.tag == "text"]


def test_the_axis_has_quarters_of_the_highest_bar() -> None:
    drawn = svg(stacked({"compute": [10.0, 30.0], "input": [5.0, 10.0]}, ["1", "2"], across="steps", unit="ms"))
    assert texts(drawn)[:5] == ["0", "10", "20", "30", "40"]
    heights = [float(element.get("y1", 0)) for element in drawn if element.tag == "line"]
    gaps = [low - high for low, high in pairwise(heights)]
    assert gaps == [gaps[0]] * 4 and gaps[0] > 0, "upwards, evenly"


def test_a_part_that_took_no_time_is_not_drawn_but_keeps_its_place_in_the_key() -> None:
    html = stacked({"compute": [1.0], "checkpoint_stall": [0.0]}, ["1"], across="steps", unit="ms")
    assert sum(element.tag == "rect" for element in svg(html)) == 1
    assert "checkpoint stall" in html and "var(--checkpoint_stall)" in html


def test_many_bars_share_the_width_and_have_a_dozen_labels() -> None:
    count = 60
    drawn = svg(stacked({"compute": [1.0] * count}, [str(each) for each in range(count)], across="steps", unit="ms"))
    places = [float(element.get("x", 0)) for element in drawn if element.tag == "rect"]
    assert places == sorted(places) and len(places) == count
    assert max(places) < 860, "within the picture"
    assert [text for text in texts(drawn)[5:] if text.isdigit()] == [str(each) for each in range(0, count, 5)]


def test_a_bar_below_its_zero_has_no_length_and_still_its_number() -> None:
    drawn = svg(bars([("stage 0", 0.8), ("stage 1", 1.5)], unit="x", zero=1.0))
    assert [float(element.get("width", 0)) for element in drawn if element.tag == "rect"] == [0.0, 580.0]
    assert "0.8 x" in texts(drawn) and texts(drawn)[-2:] == ["1", "1.5 x"]


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    html = table(("name", "a", "b", "c"), [("mm", 3, 0.123456, "12% of it"), ("add", 1234567.0, -1, "none")])
    assert html.count('<td class="number">') == 5
    assert '<td class="number">0.1235</td>' in html and '<td class="number">1.235e+06</td>' in html
    assert "<td>mm</td>" in html and "<td>none</td>" in html
    assert html.count("<tr>") == 3


def test_a_bar_takes_the_color_of_its_name_and_a_name_cannot_leave_the_attribute() -> None:
    assert 'fill="var(--input, var(--bar))"' in bars([("input", 1.0)], unit="s")
    hostile = bars([('x"/><script>', 1.0)], unit="s")
    assert 'fill="var(--xscript, var(--bar))"' in hostile and "<script>" not in hostile
    assert 'fill="var(--bar, var(--bar))"' in bars([("%", 1.0)], unit="s"), "a name without letters"


def test_sections_come_in_their_order_below_the_lead() -> None:
    html = page("t", "<p>lead</p>", [Section("first", "<p>1</p>"), Section("second", "<p>2</p>")])
    places = [html.index(part) for part in ("<p>lead</p>", "<h2>first</h2>", "<p>1</p>", "<h2>second</h2>", "<p>2</p>")]
    assert places == sorted(places)
