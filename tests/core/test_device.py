"""A device answers with the peak of the precision that it really computes in."""

from __future__ import annotations

from bedplate.core.device import Device


def device(**peaks: float) -> Device:
    return Device("X", "nobody", peaks, 2**30, 1e9, 1e9, 8, 1e8, 100.0, 1.0)


def test_a_precision_that_is_missing_is_computed_in_the_next_wider_one() -> None:
    ampere = device(fp32=1.0, bf16=4.0)
    assert ampere.peak("fp8") == 4.0
    assert ampere.peak("bf16") == 4.0
    assert ampere.half == "bf16"
    volta = device(fp32=1.0, fp16=4.0)
    assert volta.peak("bf16") == 4.0
    assert volta.half == "fp16"


def test_without_16_bits_all_is_32_bits() -> None:
    old = device(fp32=2.0)
    assert old.half == "fp32"
    assert old.peak("fp8") == old.peak("bf16") == 2.0


def test_integers_do_not_stand_in_for_floats() -> None:
    assert device(fp32=1.0, bf16=3.0, int8=9.0).peak("fp8") == 3.0
