"""Rent or buy: from which use on one's own is cheaper, and when it has paid itself back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.policy.ownership import HOURS_OF_MONTH, Machine, leaving_micros, rent_or_buy

SERVER = Machine(capital_micros=36_525_000_000, power_hour_micros=500_000, months=50)  # 1 for each hour of its life


def test_a_machine_that_costs_as_much_as_half_its_hours_of_rent_pays_from_half_its_hours_on() -> None:
    found = rent_or_buy(SERVER, rent_hour_micros=2_500_000, used=0.5)
    assert found.break_even == pytest.approx(0.5)
    assert found.months == 50
    assert found.own_micros == found.rent_micros == pytest.approx(36_525_000_000 * 1.25)


def test_rent_below_the_power_is_never_beaten() -> None:
    found = rent_or_buy(SERVER, rent_hour_micros=400_000, used=1.0)
    assert (found.break_even, found.months) == (None, None)


def test_what_is_not_used_never_pays_back() -> None:
    found = rent_or_buy(SERVER, rent_hour_micros=10_000_000, used=0.0)
    assert found.months is None
    assert (found.rent_micros, found.own_micros) == (0, SERVER.capital_micros)


@given(st.integers(1, 10**11), st.integers(0, 10**7), st.integers(1, 120), st.integers(0, 10**8), st.floats(0, 1))
def test_the_verdict_agrees_with_both_totals(capital: int, power: int, months: int, rent: int, used: float) -> None:
    found = rent_or_buy(Machine(capital, power, months), rent, used)
    cheaper = HOURS_OF_MONTH * months * used * (rent - power) >= capital
    assert (found.months is not None) == cheaper
    if found.break_even is not None and abs(used - found.break_even) > 1e-9:
        assert (used > found.break_even) == cheaper
    if found.months is not None:
        assert 1 <= found.months <= months


def test_leaving_costs_the_egress_and_the_work_since_the_last_checkpoint() -> None:
    assert leaving_micros(100.0, 90_000, 1800.0, 4_000_000) == 9_000_000 + 2_000_000
