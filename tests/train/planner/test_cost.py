"""The bill: hours, money and energy from a rate; prices and power that are given win over the catalog's."""

from __future__ import annotations

import pytest

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
