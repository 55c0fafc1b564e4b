"""The time of a step: its parts add up, and each comes from what should cause it."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import JobError
from bedplate.hardware.catalog.reader import device
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.presets import preset
from bedplate.train.planner.step import predict

WORK = Work(preset("llama3-70b"), 8192, 128, kernels="fused", fused_loss=True, overlap_tensor=True, gradient_bytes=2.0)
CLUSTER = Cluster(device("H100-SXM"), 64)
LAYOUT = Layout(data=2, tensor=4, pipeline=8)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2]), st.sampled_from([1, 2]))
def test_parts_add_up_and_tokens_follow_from_them(tensor: int, pipeline: int, context: int, micro: int) -> None:
    layout = Layout(128 // tensor // pipeline // context, 1, tensor, pipeline, context, micro_batch=micro)
    found = predict(WORK, Cluster(CLUSTER.device, 128), layout)
    assert all(value >= 0 for value in dataclasses.astuple(found.time))
    assert found.tokens_per_s_per_device == pytest.approx(WORK.tokens / found.time.total_s / 128)
    assert 0 < found.model_flops_utilization <= found.hardware_flops_utilization * 1.001 < 1


def test_the_bubble_is_that_of_narayanan_et_al() -> None:
    """(p - 1) / m of the ideal time, divided by the stages a rank holds (2021, sections 2.2.1 and 2.2.2)."""
    plain, interleaved = predict(WORK, CLUSTER, LAYOUT), predict(WORK, CLUSTER, dataclasses.replace(LAYOUT, stages_per_rank=5))
    busy_s = plain.time.compute_s + plain.time.tensor_s + plain.time.pipeline_s
    assert plain.time.bubble_s / busy_s == pytest.approx(7 / 64)
    busy_s = interleaved.time.compute_s + interleaved.time.tensor_s + interleaved.time.pipeline_s
    assert interleaved.time.bubble_s / busy_s == pytest.approx(7 / 64 / 5)


def test_only_axes_that_are_used_communicate() -> None:
    alone = predict(dataclasses.replace(WORK, shape=preset("mpt-1b")), Cluster(device("H100"), 1), Layout())
    assert alone.time.communication_s == alone.time.bubble_s == 0
    tensor = predict(WORK, Cluster(device("H100"), 8), Layout(tensor=8)).time
    assert tensor.tensor_s > 0
    assert tensor.communication_s == tensor.tensor_s


def test_tensor_parallelism_across_domains_is_slow() -> None:
    near, far = predict(WORK, CLUSTER, Layout(data=8, tensor=8)), predict(WORK, CLUSTER, Layout(data=4, tensor=16))
    assert far.time.tensor_s > 2 * near.time.tensor_s


def test_hiding_tensor_communication_helps() -> None:
    plain = predict(dataclasses.replace(WORK, overlap_tensor=False), CLUSTER, LAYOUT)
    assert predict(WORK, CLUSTER, LAYOUT).time.tensor_s < plain.time.tensor_s


def test_sharding_is_hidden_behind_large_micro_batches() -> None:
    work = dataclasses.replace(WORK, kernels="compiled")
    one, four = (predict(work, CLUSTER, Layout(shard=64, zero=3, micro_batch=size)) for size in (1, 2))
    assert four.time.shard_s / four.time.compute_s < one.time.shard_s / one.time.compute_s


def test_slow_storage_is_waited_for_and_fast_storage_is_not() -> None:
    slow = predict(dataclasses.replace(WORK, storage_bytes_per_s=1e5), CLUSTER, LAYOUT).time
    assert slow.total_s == pytest.approx(WORK.tokens * 4 / 1e5)
    assert slow.input_s > 0
    assert predict(dataclasses.replace(WORK, storage_bytes_per_s=2e9), CLUSTER, LAYOUT).time.input_s == 0


def test_checkpoints_cost_by_their_interval() -> None:
    often, seldom = (predict(dataclasses.replace(WORK, checkpoint_every_s=every_s), CLUSTER, LAYOUT).time for every_s in (60.0, 3600.0))
    assert often.checkpoint_s == pytest.approx(60 * seldom.checkpoint_s)
    assert seldom.checkpoint_s > 0


def test_experts_send_tokens() -> None:
    work = Work(preset("mixtral-8x7b"), 4096, 256)
    assert predict(work, CLUSTER, Layout(data=64, expert=8)).time.expert_s > 0
    assert predict(work, CLUSTER, Layout(data=64)).time.expert_s == 0


def test_a_prediction_is_json() -> None:
    found = json.loads(json.dumps(predict(WORK, CLUSTER, LAYOUT).to_json()))
    assert found["mesh"] == {"data": 2, "tensor": 4, "pipeline": 8}
    assert found["time"]["total_s"] > found["time"]["compute_s"] > 0
    assert found["memory"]["total_bytes"] > found["memory"]["optimizer_bytes"]


def test_recomputation_shows_in_hardware_utilization_only() -> None:
    full = predict(WORK, CLUSTER, dataclasses.replace(LAYOUT, recompute="full"))
    none = predict(WORK, CLUSTER, LAYOUT)
    assert full.model_flops_utilization < none.model_flops_utilization
    assert full.hardware_flops_utilization > 1.2 * full.model_flops_utilization


def test_a_layout_for_other_devices_is_refused_before() -> None:
    with pytest.raises(JobError, match="64 devices"):
        Layout(data=3).check(WORK, CLUSTER)
