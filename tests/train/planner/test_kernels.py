"""The time of one layer: more work takes longer, sharing it is faster, and nothing exceeds the peak."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.hardware.catalog.reader import device, devices
from bedplate.train.planner.efficiency import FITTED
from bedplate.train.planner.kernels import Passes, Speeds, layer, output
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.presets import preset
from bedplate.train.planner.shape import Shape

WORK = Work(preset("llama3-8b"), 8192, 64)


def one(work: Work = WORK, layout: Layout = Layout(), name: str = "H100-SXM", power_w: float | None = None) -> Passes:
    return layer(work, layout, Speeds(work, Cluster(device(name), 1, power_w), FITTED))


@pytest.mark.parametrize("name", devices())
def test_no_accelerator_exceeds_its_peak(name: str) -> None:
    found = one(name=name)
    assert found.flops / found.total_s < device(name).peak("bf16")


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([512, 2048, 8192]), st.sampled_from(["none", "selective", "full"]))
def test_sharing_a_layer_never_takes_longer_and_never_divides_more_than_its_work(tensor: int, sequence: int, recompute: str) -> None:
    work = dataclasses.replace(WORK, sequence=sequence)
    whole, part = one(work, Layout(recompute=recompute)), one(work, Layout(tensor=tensor, recompute=recompute))
    assert part.total_s <= whole.total_s
    assert part.flops == pytest.approx(whole.flops / tensor)


def test_recomputation_costs_half_or_all_of_a_forward_pass() -> None:
    none, selective, full = (one(layout=Layout(recompute=how)) for how in ("none", "selective", "full"))
    assert none.again_s == 0
    assert full.again_s == full.forward_s
    assert 0.3 * full.forward_s < selective.again_s < 0.7 * full.forward_s
    assert none.flops < selective.flops < full.flops


def test_fewer_tokens_at_once_are_less_efficient() -> None:
    long, short = one(layout=Layout(micro_batch=8)), one(dataclasses.replace(WORK, sequence=128))
    assert short.flops / short.total_s < long.flops / long.total_s


def test_fp8_is_faster_where_there_is_any() -> None:
    low = dataclasses.replace(WORK, precision="fp8", kernels="fused")
    assert one(low).total_s < one(dataclasses.replace(WORK, kernels="fused")).total_s
    assert one(low, name="A100").total_s == one(dataclasses.replace(WORK, kernels="fused"), name="A100").total_s


def test_eager_kernels_are_slower_than_compiled_ones() -> None:
    assert one(dataclasses.replace(WORK, kernels="eager")).total_s > one().total_s


def test_a_power_limit_slows_and_one_above_the_design_power_does_nothing() -> None:
    assert one(power_w=500).total_s > one().total_s
    assert one(power_w=900).total_s == one().total_s


def test_small_layers_wait_for_launches() -> None:
    tiny = Work(dataclasses.replace(preset("gpt2"), hidden=64, heads=1, kv_heads=1, head=64, ffn=64), 16, 1, kernels="eager")
    soft = FITTED.software
    assert one(tiny).forward_s == pytest.approx(soft.launches["eager"] * soft.launch_s)


def test_a_fused_loss_is_faster() -> None:
    speeds = Speeds(WORK, Cluster(device("H100"), 1), FITTED)
    assert output(dataclasses.replace(WORK, fused_loss=True), Layout(), speeds).total_s < output(WORK, Layout(), speeds).total_s


@pytest.mark.parametrize(
    ("layout", "flops"),
    [
        (Layout(), 3 * (4608 + 256)),
        (Layout(recompute="selective"), 3 * (4608 + 256) + 4608 / 2),
        (Layout(recompute="full"), 4 * (4608 + 256)),
        (Layout(tensor=2), 3 * (4608 + 256) / 2),
        (Layout(context=2), 3 * (4608 + 256) / 2),
        (Layout(micro_batch=3), 9 * (4608 + 256)),
    ],
)
def test_flop_of_a_tiny_layer_worked_out_by_hand(layout: Layout, flops: float) -> None:
    """Four tokens through 576 parameters, 2 FLOP each, are 4608; scores and values of half of all pairs at width 8 are 256."""
    tiny = Work(Shape("tiny", 2, 8, 2, 1, 16, 10), 4, 8)
    assert one(tiny, layout).flops == flops


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.sampled_from([1, 2, 4]))
def test_the_output_is_shared_by_its_ranks_and_in_proportion_to_its_tokens(tensor: int, fused: bool, micro: int) -> None:
    work = dataclasses.replace(WORK, fused_loss=fused)
    speeds = Speeds(work, Cluster(device("H100"), 1), FITTED)
    whole, part = output(work, Layout(), speeds), output(work, Layout(tensor=tensor, micro_batch=micro), speeds)
    assert part.total_s == pytest.approx(whole.total_s * micro / tensor)
    assert part.flops == pytest.approx(3 * 2 * 8192 * micro * 4096 * 128256 / tensor)
