"""Money in whole micro-units: nothing is lost by rounding or dividing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.money import apportion, micros, money, parse_money


@pytest.mark.parametrize(("amount", "expected"), [("1", 1_000_000), (0.1, 100_000), ("0.0000005", 0), ("0.0000015", 2), (2.5e-6, 2)])
def test_amounts_are_rounded_to_the_micro_unit_half_to_even(amount: str | float, expected: int) -> None:
    assert micros(amount) == expected


@pytest.mark.parametrize("amount", ["nothing", "NaN", "Infinity"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError):
        micros(amount)


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "0.00 USD"), (1_234_567_890, "1,234.57 USD"), (50_000, "0.0500 USD"), (-2_000_000, "-2.00 USD")]
)
def test_people_see_cents_and_below_ten_cents_more(amount: int, shown: str) -> None:
    assert money(amount, "USD") == shown


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_what_is_divided_adds_up_and_nobody_is_a_unit_off(total: int, weights: list[int]) -> None:
    parts, whole = apportion(total, weights), sum(weights)
    if not whole:
        assert parts == [0] * len(weights)
        return
    assert sum(parts) == total
    assert all(abs(part * whole - total * weight) < whole for part, weight in zip(parts, weights, strict=True))


def test_nothing_negative_is_divided() -> None:
    for total, weights in ((-1, [1]), (1, [-1, 2])):
        with pytest.raises(ValueError):
            apportion(total, weights)


def test_an_amount_is_written_with_its_currency() -> None:
    assert parse_money("20 USD") == (20_000_000, "USD")
    assert parse_money(" 0.5 EUR ") == (500_000, "EUR")
    for text in ("20", "USD 20", "-1 USD", "1 usd", "1,5 EUR"):
        with pytest.raises(ValueError, match="write for example 20 USD"):
            parse_money(text)
