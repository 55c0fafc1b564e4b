"""Confidence: the interval covers what it says it covers, is paired, seeded, and refuses what has no rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import SpecError
from bedplate.models.bootstrap import Interval, confident, interval
from bedplate.models.expression import parse
from bedplate.models.grades import RowResults, grades

BETTER = parse("rmse < production.rmse with 95% confidence")


def rows(**columns: object) -> RowResults:
    found = grades({"rows": columns}).rows
    assert found is not None
    return found


def drawn(seed: int, shift: float, count: int = 400) -> tuple[RowResults, RowResults]:
    """Losses of a candidate and of production that differ by `shift` on average, row by row alike otherwise."""
    generator = np.random.default_rng(seed)
    hard = generator.exponential(10, count)
    return rows(loss=hard + generator.normal(shift, 1, count)), rows(loss=hard)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rule = parse("loss < production.loss with 90% confidence")
    hits = 0
    for seed in range(120):
        found = interval(rule, *drawn(seed, 0.1, 100), resamples=200)
        hits += found.low <= 0.1 <= found.high
    assert 0.80 <= hits / 120 <= 0.97


def test_a_chance_difference_is_rarely_taken_for_a_real_one() -> None:
    rule = parse("loss < production.loss with 95% confidence")
    wrong = sum(confident(rule, interval(rule, *drawn(seed, 0.0, 100), resamples=200)) for seed in range(120))
    assert wrong <= 9, "2.5% are expected on this side"


def test_pairing_finds_a_small_difference_that_the_spread_of_rows_would_hide() -> None:
    rule = parse("loss < production.loss with 95% confidence")
    candidate, production = drawn(7, -0.3)
    assert confident(rule, interval(rule, candidate, production))
    _, other = drawn(8, 0.0)
    assert not confident(rule, interval(rule, candidate, other)), "rows of somebody else are not paired"


def test_the_same_seed_gives_the_same_interval() -> None:
    rule = parse("loss < production.loss with 95% confidence")
    candidate, production = drawn(3, 0.0)
    assert interval(rule, candidate, production) == interval(rule, candidate, production)
    assert interval(rule, candidate, production, seed=1) != interval(rule, candidate, production, seed=2)


@pytest.mark.parametrize(
    ("text", "sure"),
    [
        ("rmse < production.rmse with 95% confidence", True),
        ("production.rmse > rmse with 95% confidence", True),
        ("rmse > production.rmse with 95% confidence", False),
        ("rmse <= production.rmse * 0.5 with 95% confidence", False),
        ("max(slice.shop.rmse) < max(production.slice.shop.rmse) with 95% confidence", True),
        ('slice.shop["b"].rmse < production.slice.shop["b"].rmse with 95% confidence', True),
        ("rmse < 3 with 99.9% confidence", True),
        ("rmse < 1 with 50% confidence", False),
    ],
)
def test_directions_factors_and_slices(text: str, sure: bool) -> None:
    generator = np.random.default_rng(0)
    errors, shops = generator.normal(0, 2, 300), ["a", "b", "c"] * 100
    rule = parse(text)
    candidate, production = rows(rmse=errors * 0.8, shop=shops), rows(rmse=errors, shop=shops)
    assert confident(rule, interval(rule, candidate, production)) is sure


def test_equal_versions_are_never_surely_better() -> None:
    same = rows(rmse=[1.0, 2.0, 3.0])
    found = interval(BETTER, same, same)
    assert (found.low, found.high) == (0.0, 0.0) and not confident(BETTER, found)
    assert found.to_json() == {"low": 0.0, "high": 0.0, "confidence": 0.95, "resamples": 1000, "rows": 3, "seed": 20130101}


def test_what_has_no_rows_is_named() -> None:
    known = rows(rmse=[1.0, 2.0], shop=["a", "b"])
    with pytest.raises(SpecError, match="a confidence needs the rows of the candidate"):
        interval(BETTER, None, known)
    with pytest.raises(SpecError, match="a confidence needs the rows of production"):
        interval(BETTER, known, None)
    with pytest.raises(SpecError, match=r"no rows are known of a metric \(got 'mae'\)"):
        interval(parse("mae < production.mae with 95% confidence"), known, known)
    with pytest.raises(SpecError, match=r"no rows are known of a group \(got 'shops'\). Fix: did you mean 'shop'"):
        interval(parse("max(slice.shops.rmse) < 3 with 95% confidence"), known, None)
    with pytest.raises(SpecError, match="other rows for production"):
        interval(BETTER, known, rows(rmse=[1.0]))


@pytest.mark.parametrize(
    ("low", "high", "less", "more"),
    [(-2, -1, True, False), (1, 2, False, True), (-1, 1, False, False), (0, 1, False, False)],
)
def test_an_interval_that_touches_zero_says_nothing(low: float, high: float, less: bool, more: bool) -> None:
    found = Interval(low, high, 0.95, 10, 10, 1)
    assert (found.excludes_zero(True), found.excludes_zero(False)) == (less, more)


def test_a_constant_difference_has_an_interval_of_no_width() -> None:
    found = interval(
        parse("loss < production.loss with 99% confidence"), rows(loss=[1.0, 2.0, 3.0]), rows(loss=[3.0, 4.0, 5.0]), resamples=50
    )
    assert found.low == pytest.approx(-2)
    assert found.high == pytest.approx(-2)
    assert (found.resamples, found.rows, found.confidence) == (50, 3, 0.99)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_more_confidence_is_a_wider_interval_and_sides_may_change_places(values: list[float]) -> None:
    own, other = rows(loss=values), rows(loss=[0.0] * len(values))
    texts = ("loss < production.loss with 80% confidence", "loss < production.loss with 99% confidence")
    narrow, wide = (interval(parse(text), own, other, resamples=60) for text in texts)
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    turned = interval(parse("production.loss > loss with 80% confidence"), own, other, resamples=60)
    assert (turned.low, turned.high) == (pytest.approx(-narrow.high, abs=1e-9), pytest.approx(-narrow.low, abs=1e-9))


def test_a_group_that_is_rarely_drawn_leaves_the_difference_unknown() -> None:
    shops = ["a"] * 30 + ["b"]
    rule = parse('slice.shop["b"].loss < 5 with 90% confidence')
    found = interval(rule, rows(loss=[1.0] * 31, shop=shops), None, resamples=200)
    assert np.isnan(found.low)
    assert not confident(rule, found), "in a third of the draws it is not there"
