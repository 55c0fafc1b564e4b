"""Memory by part: the arithmetic of ZeRO, and activations under each way to share and to recompute."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.train.planner.layout import Layout, Work
from bedplate.train.planner.memory import RUNTIME_BYTES, memory, stage_parameters
from bedplate.train.planner.presets import preset

SHAPE = preset("llama3-8b")
WORK = Work(SHAPE, 8192, 512)


def test_copies_hold_18_bytes_a_parameter_and_splitting_the_optimizer_leaves_6() -> None:
    """ZeRO, Rajbhandari et al. 2020, figure 1, with gradients of 4 bytes."""
    whole = memory(WORK, Layout(data=8, zero=0))
    split = memory(WORK, Layout(data=8, zero=1))
    states = whole.parameters_bytes + whole.gradients_bytes + whole.optimizer_bytes
    assert states == pytest.approx(18 * SHAPE.parameters, rel=1e-3)
    assert split.parameters_bytes == whole.parameters_bytes
    assert split.optimizer_bytes == pytest.approx(whole.optimizer_bytes / 8)


def test_full_sharding_divides_all_states() -> None:
    found = memory(WORK, Layout(shard=64, zero=3))
    states = found.parameters_bytes + found.gradients_bytes + found.optimizer_bytes
    assert states == pytest.approx(16 * SHAPE.parameters / 64, rel=1e-3)


def test_ranks_of_a_context_group_share_parameters_as_well() -> None:
    one = memory(WORK, Layout(shard=8, zero=3))
    two = memory(WORK, Layout(shard=4, context=2, zero=3))
    assert two.optimizer_bytes == pytest.approx(one.optimizer_bytes)
    assert two.activations_bytes == pytest.approx(one.activations_bytes / 2)


def test_activations_divide_by_tensor_and_grow_with_the_micro_batch() -> None:
    one = memory(WORK, Layout(shard=8, zero=3)).activations_bytes
    assert memory(WORK, Layout(shard=8, tensor=4, zero=3)).activations_bytes == pytest.approx(one / 4)
    assert memory(WORK, Layout(shard=8, zero=3, micro_batch=2)).activations_bytes == pytest.approx(2 * one)


def test_recomputing_more_keeps_less() -> None:
    kept = [memory(WORK, Layout(shard=8, zero=3, recompute=how)).activations_bytes for how in ("none", "selective", "full")]
    assert kept == sorted(kept, reverse=True)
    assert kept[2] == pytest.approx(1.03 * 32 * 8192 * 2 * 4096)


def test_the_first_stage_of_a_pipeline_keeps_the_micro_batches_in_flight() -> None:
    deep = memory(WORK, Layout(data=8, pipeline=4))
    assert deep.activations_bytes == pytest.approx(memory(WORK, Layout(data=8)).activations_bytes)
    few = dataclasses.replace(WORK, batch=8)
    assert memory(few, Layout(data=8, pipeline=4)).activations_bytes < deep.activations_bytes


def test_an_interleaved_pipeline_keeps_more() -> None:
    plain = memory(WORK, Layout(data=8, pipeline=4)).activations_bytes
    assert memory(WORK, Layout(data=8, pipeline=4, stages_per_rank=2)).activations_bytes > plain


def test_a_fused_loss_and_eager_norms_show() -> None:
    fused = dataclasses.replace(WORK, fused_loss=True)
    assert memory(fused, Layout(shard=8, zero=3)).buffers_bytes < memory(WORK, Layout(shard=8, zero=3)).buffers_bytes
    eager = dataclasses.replace(WORK, kernels="eager")
    assert memory(eager, Layout(shard=8, zero=3)).activations_bytes > memory(WORK, Layout(shard=8, zero=3)).activations_bytes


def test_experts_divide_by_their_axis() -> None:
    shape = preset("mixtral-8x7b")
    whole, apart = (stage_parameters(shape, Layout(data=8, expert=ranks), "first") for ranks in (1, 8))
    assert whole == pytest.approx(shape.parameters, rel=1e-3)
    assert apart == pytest.approx(whole - shape.layers * 7 * shape.expert_parameters, rel=1e-3)


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 8]))
def test_the_stages_of_a_pipeline_hold_the_model_between_them(tensor: int, pipeline: int, stages: int) -> None:
    layout = Layout(tensor=tensor, pipeline=pipeline, stages_per_rank=stages if pipeline > 1 else 1)
    inner = max(0, pipeline - 2) * SHAPE.layers / pipeline * SHAPE.layer_parameters
    held = stage_parameters(SHAPE, layout, "first") + (stage_parameters(SHAPE, layout, "last") if pipeline > 1 else 0)
    assert held * tensor + inner == pytest.approx(SHAPE.parameters, rel=1e-4)


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]), st.sampled_from(["none", "selective", "full"]), st.integers(1, 4))
def test_parts_are_positive_and_add_up(tensor: int, pipeline: int, recompute: str, micro: int) -> None:
    found = memory(WORK, Layout(data=8, tensor=tensor, pipeline=pipeline, recompute=recompute, micro_batch=micro))
    parts = dataclasses.astuple(found)
    assert min(parts) > 0
    assert found.total_bytes == pytest.approx(sum(parts))
    assert found.buffers_bytes > RUNTIME_BYTES


def test_in_32_bits_there_is_no_master_copy() -> None:
    found = memory(dataclasses.replace(WORK, precision="fp32"), Layout(data=8, zero=0))
    assert found.parameters_bytes + found.gradients_bytes + found.optimizer_bytes == pytest.approx(16 * SHAPE.parameters, rel=1e-3)
