"""Offers weighed: what each costs and takes, which is chosen, and the word on each of the others."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.cluster.offers import choose, emitted_g, price, shifted
from bedplate.core.pool import Asked, Judged, Offer

HOUR = 3600.0
RENTED = Offer("cloud", "sim", "on_demand", 3_000_000, "USD", 4, 8, 64 * 10**9, devices=2, device_model="NVIDIA H100", watts=500.0)
SPOT = replace(RENTED, terms="spot", hour_micros=1_000_000, there_s=3 * HOUR, away_s=HOUR)
OWN = replace(RENTED, pool="desk", terms="own", hour_micros=2_000_000)
WORK = Asked("fit", work_s=2 * HOUR)


def one(asked: Asked, offer: Offer, *others: Offer) -> Judged:
    return price(asked, [offer, *others])[0]


def test_machines_are_as_many_as_hold_the_workers() -> None:
    assert one(Asked("fit", workers=4, cpus=4, work_s=HOUR), RENTED).machines == 2
    assert one(Asked("fit", workers=4, memory_bytes=40 * 10**9, work_s=HOUR), RENTED).machines == 4
    assert one(Asked("fit", workers=4, devices=1, device_type="h100", work_s=HOUR), RENTED).machines == 2
    assert one(Asked("fit", workers=4, cpus=4, work_s=HOUR), RENTED).cost_micros == 6_000_000


@pytest.mark.parametrize(
    ("asked", "rule", "said"),
    [
        (Asked("fit", cpus=16), "capacity", "no machine there holds a worker of 16 cores"),
        (Asked("fit", memory_bytes=10**12), "capacity", "1000 GB"),
        (Asked("fit", devices=1, device_type="A100"), "capacity", "1 A100"),
        (Asked("fit", workers=9, cpus=4), "quota", "needs 5 machines, 4 may be had"),
    ],
)
def test_what_does_not_fit_says_why(asked: Asked, rule: str, said: str) -> None:
    refused = dict(one(asked, RENTED).refused)
    assert said in refused[rule]


def test_this_machine_takes_a_worker_that_wants_more_cores_than_it_has() -> None:
    assert one(Asked("fit", cpus=16), replace(OWN, engine="local")).refused == ()


def test_data_that_lies_elsewhere_costs_its_egress() -> None:
    far = replace(RENTED, egress_micros_gb=90_000)
    asked = replace(WORK, data_gb=100.0, data_in="desk")
    assert (one(asked, far).egress_micros, one(asked, far).total_micros) == (9_000_000, 15_000_000)
    assert one(replace(asked, data_in="cloud"), far).egress_micros == 0


def test_spot_costs_its_rate_and_the_changeovers_and_takes_as_long_as_it_is_away() -> None:
    judged = one(WORK, SPOT)
    needed_s = 2 * HOUR + 2 / 3 * 60
    assert judged.cost_micros == math.ceil(1_000_000 * needed_s / HOUR)
    assert judged.ends_s == pytest.approx(needed_s / 0.75)


def test_spot_is_taken_for_a_deadline_only_while_on_demand_could_save_it() -> None:
    tight, loose = replace(WORK, deadline_s=2 * HOUR + 100), replace(WORK, deadline_s=12 * HOUR)
    assert "nothing on demand beside it" in dict(one(loose, SPOT).refused)["deadline"]
    assert "no time to lose" in dict(one(tight, SPOT, RENTED).refused)["deadline"]
    assert one(loose, SPOT, RENTED).refused == ()
    between = one(replace(WORK, deadline_s=2.3 * HOUR), SPOT, RENTED)
    assert between.refused == ()
    assert one(loose, SPOT, RENTED).cost_micros < (between.cost_micros or 0) < (one(WORK, RENTED).cost_micros or 0)


def test_one_s_own_comes_first_until_waiting_costs_more_than_rent() -> None:
    busy = replace(OWN, waits_s=4 * HOUR)
    assert choose(WORK, price(WORK, [RENTED, busy])).chosen == one(WORK, busy)
    decision = choose(WORK, price(WORK, [RENTED, busy]), waiting_hour_micros=2_000_000)
    assert decision.chosen == one(WORK, RENTED)
    assert decision.rejected[0][1] == "2.00 USD dearer, waiting included"


def test_the_table_has_every_offer_once_with_a_word() -> None:
    refused = replace(one(WORK, SPOT), refused=(("carbon", "too much"),))
    decision = choose(WORK, [refused, one(WORK, RENTED), one(WORK, replace(RENTED, pool="other"))])
    assert decision.chosen is not None and decision.chosen.offer.pool == "cloud"
    assert [each.offer.pool for each in decision.failover] == ["other"]
    assert [word for _, word in decision.shown] == ["chosen", "no cheaper, and needs more machines or time", "carbon: too much"]
    nothing = choose(WORK, [refused])
    assert (nothing.chosen, nothing.failover) == (None, ())


@given(st.permutations(range(5)), st.integers(0, 10**7))
def test_the_choice_does_not_depend_on_the_order_of_offers(order: list[int], waiting: int) -> None:
    found = [replace(RENTED, pool=f"p{number}", hour_micros=10**6 * (3 - number % 3), waits_s=number * 600.0) for number in range(5)]
    straight = choose(WORK, price(WORK, found), waiting)
    assert choose(WORK, price(WORK, [found[place] for place in order]), waiting) == straight


def test_emissions_follow_the_hours_of_the_grid() -> None:
    grid = replace(RENTED, carbon_g_kwh=tuple(float(hour) for hour in range(24)), pue=2.0)
    assert emitted_g(grid, 1, 0.0, 2 * HOUR) == pytest.approx(0 + 1)
    assert emitted_g(grid, 2, 22.5 * HOUR, 2 * HOUR) == pytest.approx(2 * (11 + 23 + 0))
    assert emitted_g(grid, 1, 0.0, 48 * HOUR) == pytest.approx(2 * sum(range(24)))
    assert emitted_g(replace(grid, carbon_g_kwh=(10.0,)), 1, 5.0, HOUR) == pytest.approx(10.0)
    assert emitted_g(replace(grid, watts=0.0), 1, 0.0, HOUR) is None
    assert emitted_g(replace(grid, carbon_g_kwh=()), 1, 0.0, HOUR) is None


def test_work_moves_to_the_cleanest_hours_before_its_deadline() -> None:
    grid = replace(RENTED, carbon_g_kwh=tuple(100.0 if hour < 4 else 10.0 for hour in range(24)))
    asked = replace(WORK, deadline_s=8 * HOUR)
    (moved,) = shifted(asked, price(asked, [grid]))
    assert (moved.starts_s, moved.ends_s) == (4 * HOUR, 6 * HOUR)
    assert moved.carbon_g == pytest.approx(10.0)
    for other in (WORK, replace(WORK, deadline_s=2.5 * HOUR)):
        (kept,) = shifted(other, price(other, [grid]))
        assert kept.starts_s == 0


@given(st.lists(st.floats(1, 1000), min_size=24, max_size=24), st.floats(0.1, 20), st.floats(0, 30))
def test_a_shift_never_emits_more_and_never_misses_the_deadline(hours: list[float], work_h: float, slack_h: float) -> None:
    asked = Asked("fit", work_s=work_h * HOUR, deadline_s=(work_h + slack_h) * HOUR)
    (before,) = price(asked, [replace(RENTED, carbon_g_kwh=tuple(hours))])
    (after,) = shifted(asked, [before])
    assert (after.carbon_g or 0) <= (before.carbon_g or 0) + 1e-5
    assert (after.ends_s or 0) <= (asked.deadline_s or 0) + 1e-6
