"""The constants: physical, one set for an accelerator and precision, and low where nobody has published anything."""

from __future__ import annotations

import pytest

from bedplate.hardware.catalog.reader import device, devices
from bedplate.train.planner.efficiency import FITTED, UNFITTED


@pytest.mark.parametrize("name", FITTED.devices)
def test_fractions_are_fractions_of_devices_that_exist(name: str) -> None:
    own = FITTED.devices[name]
    assert name in devices()
    assert all(0.2 <= value <= 0.95 for value in (*own.matrix.values(), own.attention))
    assert set(own.matrix) <= set(device(name).peak_flops)


def test_software_is_physical() -> None:
    soft = FITTED.software
    for value in (
        soft.memory,
        soft.scale_up,
        soft.scale_out,
        soft.overlap,
        soft.contention,
        soft.tensor_overlap,
        soft.expert_overlap,
        soft.grouped,
    ):
        assert 0 < value < 1
    assert soft.traffic["eager"] > soft.traffic["fused"] > 0
    assert soft.attention["eager"] < soft.attention["compiled"] < soft.attention["fused"] == 1.0


def test_an_accelerator_without_published_rows_says_so() -> None:
    assert FITTED.of(device("MI300X")) is UNFITTED
    assert not UNFITTED.fitted
    assert FITTED.of(device("H100-SXM")).fitted
    assert UNFITTED.matrix["bf16"] < min(own.matrix["bf16"] for own in FITTED.devices.values() if own.fitted)
