"""Renting by deadline: no deadline is missed by any rule, and the planned one rents for less than those that do not know the rates."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.cluster.spot import DeadlineJob, Rented, Rule, SpotRates, Standing, greedy, planned, rent, spot_rates, uniform_progress

HOUR_S = 3600.0
TICK_S = 300.0
PRICE = 0.33


def coming_and_going(rates: SpotRates, ticks: int, seed: int) -> list[bool]:
    """Availability that stays and stays away for exponential times."""
    drawn = random.Random(seed)
    there, trace, left_s = drawn.random() < rates.there_s / (rates.there_s + rates.away_s), [], 0.0
    while len(trace) < ticks:
        left_s += drawn.expovariate(1 / (rates.there_s if there else rates.away_s))
        while left_s > 0 and len(trace) < ticks:
            trace.append(there)
            left_s -= TICK_S
        there = not there
    return trace


def ticks_of(job: DeadlineJob) -> int:
    return int(job.deadline_s / TICK_S) + 2


def test_without_spot_the_work_is_rented_on_demand_and_done_in_time() -> None:
    job = DeadlineJob(10 * HOUR_S, 12 * HOUR_S, 360)
    for rule in (greedy, uniform_progress, planned(job, PRICE, SpotRates(HOUR_S, HOUR_S), TICK_S)):
        rented = rent(job, [False] * ticks_of(job), TICK_S, rule)
        assert rented.spot_s == 0
        assert rented.finished_s <= job.deadline_s
        assert rented.on_demand_s >= job.work_s


def test_with_spot_always_there_nothing_else_is_rented() -> None:
    job = DeadlineJob(10 * HOUR_S, 15 * HOUR_S, 360)
    for rule in (greedy, uniform_progress, planned(job, PRICE, SpotRates(100 * HOUR_S, HOUR_S), TICK_S)):
        rented = rent(job, [True] * ticks_of(job), TICK_S, rule)
        assert rented == Rented(job.work_s + 360, 0.0, 1, job.work_s + 360)
        assert rented.cost(PRICE) == pytest.approx(PRICE * (job.work_s + 360))


def test_a_trace_that_ends_too_soon_is_a_job_that_is_not_done() -> None:
    assert rent(DeadlineJob(HOUR_S, 2 * HOUR_S, 0), [True] * 3, TICK_S, greedy).finished_s == float("inf")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    slack=st.sampled_from([1.1, 1.3, 2.0]),
    there_h=st.sampled_from([0.1, 1.0, 6.0]),
    away_h=st.sampled_from([0.1, 1.0, 12.0]),
    which=st.sampled_from(["greedy", "uniform", "planned", "contrary"]),
)
def test_no_rule_misses_a_deadline(seed: int, slack: float, there_h: float, away_h: float, which: str) -> None:
    job = DeadlineJob(12 * HOUR_S, 12 * HOUR_S * slack, 360)
    rates = SpotRates(there_h * HOUR_S, away_h * HOUR_S)
    rules: dict[str, Rule] = {
        "greedy": greedy,
        "uniform": uniform_progress,
        "planned": planned(job, PRICE, SpotRates(HOUR_S, HOUR_S), TICK_S, grid=50),
        "contrary": lambda job, at: random.Random(at.elapsed_s).choice(["nothing", "on_demand"]),
    }
    rented = rent(job, coming_and_going(rates, ticks_of(job), seed), TICK_S, rules[which])
    assert rented.finished_s <= job.deadline_s


@pytest.mark.parametrize(("there_h", "away_h", "slack"), [(6.0, 2.0, 1.1), (2.0, 6.0, 1.5), (4.0, 1.0, 1.5), (1.0, 10.0, 2.0)])
def test_the_planned_rule_rents_for_less_than_the_others(there_h: float, away_h: float, slack: float) -> None:
    job = DeadlineJob(24 * HOUR_S, 24 * HOUR_S * slack, 360)
    rates = SpotRates(there_h * HOUR_S, away_h * HOUR_S)
    traces = [coming_and_going(rates, ticks_of(job), seed) for seed in range(40)]
    rules = (planned(job, PRICE, rates, TICK_S), greedy, uniform_progress)
    ours, *others = (statistics.mean(rent(job, trace, TICK_S, rule).cost(PRICE) for trace in traces) for rule in rules)
    assert ours < min(others)


def test_rates_are_measured_and_a_short_history_counts_little() -> None:
    assert spot_rates([], TICK_S) == SpotRates(HOUR_S, HOUR_S)
    history = coming_and_going(SpotRates(4 * HOUR_S, 2 * HOUR_S), 200_000, seed=1)
    rates = spot_rates(history, TICK_S)
    assert rates.there_s == pytest.approx(4 * HOUR_S, rel=0.1)
    assert rates.away_s == pytest.approx(2 * HOUR_S, rel=0.1)
    assert abs(spot_rates([True] * 6, TICK_S).there_s - HOUR_S) < HOUR_S / 2


def test_on_demand_is_left_for_spot_only_when_that_is_worth_a_changeover() -> None:
    job = DeadlineJob(24 * HOUR_S, 48 * HOUR_S, 600)
    at = Standing(20 * HOUR_S, 6 * HOUR_S, "on_demand", spot_available=True)
    long_lived = planned(job, PRICE, SpotRates(8 * HOUR_S, HOUR_S), TICK_S)
    short_lived = planned(job, 0.9, SpotRates(0.1 * HOUR_S, HOUR_S), TICK_S)
    assert (long_lived(job, at), short_lived(job, at)) == ("spot", "on_demand")
