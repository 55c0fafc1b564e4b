"""Drift of columns: by hand, against the measures that watches and gates use, and what is said of sides without rows."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.models.drift import ks, psi
from bedplate.models.drift_report import MOST_CATEGORIES, SHOWN_CATEGORIES, ColumnDrift, of_numbers, of_texts

NUMBERS = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=50)
TEXTS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=50)


def shares(found: ColumnDrift) -> tuple[float, float]:
    return sum(each.before for each in found.bins), sum(each.after for each in found.bins)


@settings(max_examples=50)
@given(NUMBERS, NUMBERS)
def test_numbers_are_measured_as_everywhere_and_every_row_is_in_a_bin(before: list[float], after: list[float]) -> None:
    sides = np.array(before), np.array(after)
    found = of_numbers("x", *sides)
    assert found.psi == pytest.approx(psi(*sides))
    assert found.ks == (None if math.isnan(ks(*sides)) else ks(*sides))
    assert shares(found) == pytest.approx((1, 1))
    assert (found.nulls_before, found.nulls_after) == tuple(np.isnan(side).mean() for side in sides)


@settings(max_examples=50)
@given(TEXTS, TEXTS)
def test_texts_are_measured_as_everywhere(before: list[str], after: list[str]) -> None:
    found = of_texts("x", Counter(before), Counter(after))
    assert found.psi == pytest.approx(psi(np.array(before), np.array(after)))
    assert found.ks == pytest.approx(ks(np.array(before), np.array(after)))
    assert shares(found) == pytest.approx((1, 1))


def test_what_moved_is_told() -> None:
    same = np.arange(100.0)
    assert (of_numbers("x", same, same).verdict, of_numbers("x", same, same).psi) == ("stable", 0)
    moved = of_numbers("x", same, same + 50)
    assert (moved.verdict, moved.ks, moved.told) == ("moved", 0.5, "median 49.5 -> 99.5")
    assert [each.label for each in moved.bins][::9] == ["to 9.9", "above 89.1"]
    times = of_numbers("at", same * 86_400, same * 86_400, "time")
    assert times.told == "median 1970-02-19 12:00 -> 1970-02-19 12:00"
    nulls = of_numbers("x", same, np.full(10, math.nan))
    assert (nulls.nulls_after, nulls.told, nulls.ks) == (1, "median 49.5 -> none", None)


def test_categories_that_came_and_went_are_named() -> None:
    found = of_texts("carrier", Counter({"AA": 50, "UA": 50}), Counter({"AA": 40, "B6": 50, None: 10}))
    assert found.told == "1 new: B6; 1 gone: UA"
    assert (found.verdict, found.nulls_before, found.nulls_after) == ("moved", 0, 0.1)
    assert of_texts("carrier", Counter({"AA": 2}), Counter({"AA": 3})).told == "the same values"


def test_of_many_categories_the_most_frequent_are_drawn_and_of_very_many_none_compared() -> None:
    many = Counter({f"c{number:03}": 1000 - number for number in range(100)})
    found = of_texts("c", many, many)
    assert len(found.bins) == SHOWN_CATEGORIES + 2
    assert found.bins[-2].label == "80 others"
    assert shares(found) == pytest.approx((1, 1))
    text = of_texts("id", Counter({str(number): 1 for number in range(MOST_CATEGORIES + 1)}), Counter({"0": 1}))
    assert (text.kind, text.psi, text.verdict, text.told) == ("text", None, "-", "1001 -> 1 values: not compared one by one")


def test_a_side_without_rows_has_no_measure() -> None:
    for found in (of_numbers("x", np.array([1.0]), np.array([])), of_texts("x", Counter(), Counter({"a": 1}))):
        assert (found.psi, found.ks, found.verdict) == (None, None, "-")
        assert found.to_json()["verdict"] == "-"
