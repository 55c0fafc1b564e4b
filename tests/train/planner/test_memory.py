"""Memory by part: the arithmetic of ZeRO, and activations under each way to share and to recompute."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.train.planner.layout import Layout, Work
from bedplate.train.planner.memory import RUNTIME_BYTES, memory, stage_parameters
from bedplate.train.planner.presets import preset
from bedplate.train.planner.shape import Shape

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


# A layer: 8 x (2 x 8 + 2 x 4) parameters of attention, 3 x 8 x 16 of the feed-forward block, 2 x 8 of norms: 592; an embedding: 80.
TINY = Work(Shape("tiny", 2, 8, 2, 1, 16, 10), sequence=4, batch=8)
WHOLE = 2 * 592 + 2 * 80
LAYER = 4 * 2 * (4 * 8 + 2 * 8 + 2 * 4 + 3 * 16)  # bytes that a layer keeps of a micro-batch of 4 tokens
LOGITS = 4 * 10 * 14


@pytest.mark.parametrize(
    ("layout", "parameters", "gradients", "optimizer", "activations", "buffers"),
    [
        (Layout(), 2 * WHOLE, 4 * WHOLE, 12 * WHOLE, 2 * LAYER, LOGITS + LAYER / 2),
        (Layout(data=4), 2 * WHOLE, 4 * WHOLE, 3 * WHOLE, 2 * LAYER, LOGITS + LAYER / 2),
        (Layout(data=4, zero=0), 2 * WHOLE, 4 * WHOLE, 12 * WHOLE, 2 * LAYER, LOGITS + LAYER / 2),
        (Layout(data=2, context=2), 2 * WHOLE, 4 * WHOLE, 3 * WHOLE, LAYER, (LOGITS + LAYER / 2) / 2),
        (Layout(tensor=2), WHOLE, 2 * WHOLE, 6 * WHOLE, LAYER, (LOGITS + LAYER / 2) / 2 + 4 * 2 * 4 * 8),
        (Layout(micro_batch=3), 2 * WHOLE, 4 * WHOLE, 12 * WHOLE, 6 * LAYER, 3 * (LOGITS + LAYER / 2)),
        (Layout(shard=4, zero=3), WHOLE, WHOLE, 2 * WHOLE, 2 * LAYER, LOGITS + LAYER / 2 + (2 * 2 + 4) * 592),
        (Layout(pipeline=2), WHOLE, 2 * WHOLE, 6 * WHOLE, 2 * LAYER, LAYER / 2),
        (Layout(recompute="full"), 2 * WHOLE, 4 * WHOLE, 12 * WHOLE, 2 * 4 * 2 * 8, LOGITS + 1.5 * LAYER),
        (Layout(recompute="selective"), 2 * WHOLE, 4 * WHOLE, 12 * WHOLE, 2 * 4 * 2 * (16 + 0.5 * 64), LOGITS + 1.5 * LAYER),
    ],
    ids=lambda value: value.text() + value.recompute if isinstance(value, Layout) else "",
)
def test_a_tiny_model_worked_out_by_hand(
    layout: Layout, parameters: float, gradients: float, optimizer: float, activations: float, buffers: float
) -> None:
    found = memory(TINY, layout)
    expected = (parameters, gradients, optimizer, 1.03 * activations, buffers + RUNTIME_BYTES)
    assert dataclasses.astuple(found) == pytest.approx(expected, abs=1e-3, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"kernels": "eager"}, 4 * 2 * (104 + 4 * 8)),
        ({"precision": "fp32"}, 2 * LAYER),
        ({"precision": "fp8", "kernels": "fused"}, 4 * 2 * (104 - (16 + 8 + 16) / 2)),
        ({"shape": dataclasses.replace(TINY.shape, gated=False)}, 4 * 2 * (104 - 16)),
        ({"shape": dataclasses.replace(TINY.shape, experts=4, experts_per_token=2)}, 4 * 2 * (104 + 2 * 8 + 3 * 16)),
        ({"sequence": 8}, 2 * LAYER),
        ({"batch": 80}, LAYER),
    ],
)
def test_what_a_layer_keeps_of_a_micro_batch(change: dict[str, object], kept: float) -> None:
    assert memory(dataclasses.replace(TINY, **change), Layout()).activations_bytes == pytest.approx(1.03 * 2 * kept)


AXES = ("data", "tensor", "context", "pipeline", "expert")


@settings(deadline=None)
@given(st.sampled_from(AXES), st.sampled_from([1, 2]), st.sampled_from([0, 1]), st.sampled_from(["none", "selective", "full"]))
def test_one_more_way_to_share_never_needs_more_of_what_it_shares(axis: str, size: int, zero: int, recompute: str) -> None:
    work = Work(preset("mixtral-8x7b"), 4096, 256)
    few = Layout(data=8, tensor=2, zero=zero, recompute=recompute, **({axis: size} if axis not in ("data", "tensor") else {}))
    more = few.with_axes({axis: 2 * getattr(few, axis)})
    before, after = memory(work, few), memory(work, more)
    for part in ("parameters_bytes", "gradients_bytes", "optimizer_bytes"):
        assert getattr(after, part) <= getattr(before, part)
    assert after.activations_bytes <= before.activations_bytes * 1.0001


@settings(deadline=None)
@given(st.integers(1, 4), st.sampled_from([1024, 4096, 8192]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 4]))
def test_more_tokens_at_once_always_need_more(micro: int, sequence: int, tensor: int, pipeline: int) -> None:
    layout = Layout(data=4, tensor=tensor, pipeline=pipeline, micro_batch=micro)
    work = dataclasses.replace(WORK, sequence=sequence)
    assert memory(work, layout.with_axes({"micro_batch": micro + 1})).total_bytes > memory(work, layout).total_bytes
    assert memory(dataclasses.replace(work, sequence=2 * sequence), layout).total_bytes > memory(work, layout).total_bytes


@pytest.mark.parametrize(
    ("tied", "stage", "embeddings"), [(False, "first", 80), (False, "last", 80), (True, "first", 80), (True, "last", 80)]
)
def test_a_pipeline_holds_a_tied_embedding_at_both_ends(tied: bool, stage: str, embeddings: int) -> None:
    shape = dataclasses.replace(TINY.shape, tied=tied)
    assert stage_parameters(shape, Layout(pipeline=2), stage) == 592 + embeddings
    assert stage_parameters(shape, Layout(), "first") == 2 * 592 + (80 if tied else 160), "alone there is one matrix"


def test_layers_that_do_not_divide_fill_the_largest_stage() -> None:
    shape = dataclasses.replace(TINY.shape, layers=5)
    assert stage_parameters(shape, Layout(pipeline=2), "first") == 3 * 592 + 80
    assert stage_parameters(shape, Layout(pipeline=2, stages_per_rank=2), "first") == 2 * 2 * 592 + 80
