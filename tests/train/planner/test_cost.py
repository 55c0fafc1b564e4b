"""The bill: hours, money and energy from a rate; prices and power that are given win over the catalog's."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.hardware.catalog.reader import device
from bedplate.train.planner.cost import BUILDING, HOST, IDLE, bill, mean_power_w
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.presets import preset
from bedplate.train.planner.step import predict

CLUSTER = Cluster(device("H100-SXM"), 8)
FOUND = predict(Work(preset("llama3-8b"), 8192, 64), CLUSTER, Layout(shard=8, zero=3))


def test_time_hours_and_money_follow_from_the_rate() -> None:
    found = bill(CLUSTER, FOUND, 1e9, price_usd_per_h=2.0)
    assert found.time_s == pytest.approx(1e9 / (FOUND.tokens_per_s_per_device * 8))
    assert found.device_hours == pytest.approx(found.time_s / 3600 * 8)
    assert found.cost_usd == pytest.approx(found.device_hours * 2)
    assert found.price_source == "as given"


def test_without_a_price_the_catalogs_is_taken_and_called_an_estimate() -> None:
    found = bill(CLUSTER, FOUND, 1e9)
    assert found.price_usd_per_h == CLUSTER.device.price_usd_per_h
    assert found.price_source.startswith("an estimate: ")
    assert "https://" in found.price_source


def test_energy_lies_between_idle_and_full_power() -> None:
    power_w = mean_power_w(CLUSTER, FOUND)
    most_w = 700 * (1 + HOST) * BUILDING
    assert IDLE * most_w < power_w < most_w
    found = bill(CLUSTER, FOUND, 1e9)
    assert found.energy_kwh == pytest.approx(found.device_hours * power_w / 1000)


def test_a_power_limit_saves_energy_in_an_hour() -> None:
    assert mean_power_w(Cluster(device("H100-SXM"), 8, 350.0), FOUND) == pytest.approx(mean_power_w(CLUSTER, FOUND) / 2)


def test_a_bill_worked_out_by_hand() -> None:
    """A million tokens a second and device on 8 devices: 80 billion take 10,000 s; half of a step computes at 700 W."""
    time = dataclasses.replace(FOUND.time, **dict.fromkeys(dataclasses.asdict(FOUND.time), 0.0))
    found = dataclasses.replace(FOUND, tokens_per_s_per_device=1e6, time=dataclasses.replace(time, compute_s=1.0, bubble_s=1.0))
    owed = bill(CLUSTER, found, 80e9, price_usd_per_h=3.0)
    assert (owed.time_s, owed.device_hours) == pytest.approx((10_000, 10_000 / 3600 * 8))
    assert owed.cost_usd == pytest.approx(66.67, abs=0.01)
    assert mean_power_w(CLUSTER, found) == pytest.approx(700 * (0.25 + 0.75 / 2) * 1.25 * 1.10)
    assert owed.energy_kwh == pytest.approx(22.22 * 0.6016, rel=1e-3)


@settings(deadline=None)
@given(st.floats(1, 1e15), st.floats(1.1, 10))
def test_more_tokens_cost_in_proportion_and_a_free_device_costs_nothing(tokens: float, times: float) -> None:
    one, more = bill(CLUSTER, FOUND, tokens), bill(CLUSTER, FOUND, tokens * times)
    for part in ("time_s", "device_hours", "cost_usd", "energy_kwh"):
        assert getattr(more, part) == pytest.approx(times * getattr(one, part))
    free = bill(CLUSTER, FOUND, tokens, price_usd_per_h=0.0)
    assert (free.cost_usd, free.price_source, free.energy_kwh) == (0.0, "as given", one.energy_kwh)


def test_a_power_limit_above_the_design_power_changes_no_bill() -> None:
    assert mean_power_w(Cluster(device("H100-SXM"), 8, 900.0), FOUND) == mean_power_w(CLUSTER, FOUND)
