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
