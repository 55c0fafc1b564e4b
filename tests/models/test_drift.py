"""Drift: by hand, by scipy, and what must hold of any sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.models.drift import LEAST_SHARE, ks, psi

NUMBERS = np.random.default_rng(1).normal(0, 1, 5000)
SAMPLE = st.lists(st.floats(-1e9, 1e9) | st.just(math.nan), min_size=1, max_size=60)


def test_psi_of_categories_by_hand() -> None:
    before, after = np.array(["a"] * 6 + ["b"] * 4), np.array(["a"] * 3 + ["b"] * 7)
    assert psi(before, after) == pytest.approx((0.3 - 0.6) * math.log(0.3 / 0.6) + (0.7 - 0.4) * math.log(0.7 / 0.4))
    assert ks(before, after) == pytest.approx(0.3)


def test_a_category_that_is_new_is_finite_and_large() -> None:
    value = psi(np.array(["a"] * 10), np.array(["b"] * 10))
    assert value == pytest.approx(2 * (1 - LEAST_SHARE) * math.log(1 / LEAST_SHARE))
    assert ks(np.array(["a"] * 10), np.array(["b"] * 10)) == 1


def test_a_shift_is_seen_and_chance_is_not() -> None:
    again = np.random.default_rng(2).normal(0, 1, 5000)
    assert psi(NUMBERS, again) < 0.02 and ks(NUMBERS, again) < 0.04
    assert psi(NUMBERS, again + 1) > 0.25 and ks(NUMBERS, again + 1) > 0.3


def test_nulls_are_a_bin_of_their_own() -> None:
    holes = NUMBERS.copy()
    holes[:2500] = math.nan
    assert psi(NUMBERS, holes) > 0.25, "half of it is gone"
    assert psi(holes, holes[::-1]) == pytest.approx(0, abs=1e-12)


def test_ks_is_scipys() -> None:
    scipy = pytest.importorskip("scipy.stats", reason="scipy is the reference, not a dependency")
    other = np.random.default_rng(3).normal(0.2, 1.3, 777)
    assert ks(NUMBERS, other) == pytest.approx(scipy.ks_2samp(NUMBERS, other).statistic)


@pytest.mark.parametrize("measure", [psi, ks])
def test_nothing_has_no_drift(measure) -> None:
    assert math.isnan(measure(np.array([]), NUMBERS)) and math.isnan(measure(NUMBERS, np.array([])))


def test_a_constant_that_moved_is_seen() -> None:
    assert psi(np.zeros(50), np.zeros(70)) == 0
    assert psi(np.zeros(50), np.ones(70)) > 1


@settings(deadline=None)
@given(SAMPLE, SAMPLE)
def test_it_is_never_negative_and_nothing_has_not_moved_from_itself(first: list[float], second: list[float]) -> None:
    one, two = np.array(first), np.array(second)
    assert psi(one, two) >= 0 and psi(one, one) == 0
    assert math.isnan(ks(one, two)) or 0 <= ks(one, two) <= 1


@pytest.mark.parametrize(
    ("before", "after", "distance"),
    [
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], 0.0),
        ([1.0, 2.0], [3.0, 4.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0], [3.0, 4.0], 0.5),
        ([1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 2.0, 2.0], 0.25),
        ([0.0, math.nan], [0.0], 0.0),
        ([math.inf, 0.0], [0.0, 0.0], 0.5),
    ],
)
def test_ks_of_numbers_by_hand(before: list[float], after: list[float], distance: float) -> None:
    assert ks(np.array(before), np.array(after)) == pytest.approx(distance)
    assert ks(np.array(after), np.array(before)) == pytest.approx(distance), "it has no direction"


def test_ks_of_nulls_alone_is_not_known() -> None:
    assert math.isnan(ks(np.array([math.nan]), np.array([1.0])))


@pytest.mark.parametrize("factor", [1, 3, 10])
def test_psi_is_of_shares_and_not_of_counts(factor: int) -> None:
    before, after = np.array(["a"] * 6 + ["b"] * 4), np.array((["a"] * 2 + ["b"] * 3) * factor)
    assert psi(before, after) == pytest.approx((0.4 - 0.6) * math.log(0.4 / 0.6) + (0.6 - 0.4) * math.log(0.6 / 0.4))


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32, np.float64, np.uint8])
def test_numbers_of_every_width_are_one_measure(kind: type) -> None:
    before, after = np.arange(100).astype(kind), (np.arange(100) // 2).astype(kind)
    assert psi(before, after) == psi(np.arange(100.0), np.arange(100.0) // 2)
    assert ks(before, after) == pytest.approx(0.5)


def test_psi_of_deciles_by_hand() -> None:
    before, after = np.arange(1.0, 101.0), np.arange(1.0, 51.0)
    # ten bins of a tenth each; the present has a fifth in each of the first five and nothing in the others
    expected = 5 * (0.2 - 0.1) * math.log(0.2 / 0.1) + 5 * (LEAST_SHARE - 0.1) * math.log(LEAST_SHARE / 0.1)
    assert psi(before, after) == pytest.approx(expected)


def test_categories_that_are_missing_are_one_of_their_own() -> None:
    before, after = np.array(["a", None, "b", "b"], dtype=object), np.array(["a", "a", "b", "b"], dtype=object)
    assert ks(before, after) == pytest.approx(0.25)
    assert psi(before, before) == 0
