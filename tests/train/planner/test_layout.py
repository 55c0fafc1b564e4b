"""Layouts: what they multiply to, and which work they cannot do."""

from __future__ import annotations

import pytest

from bedplate.core.errors import JobError
from bedplate.hardware.catalog.reader import device
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.presets import preset

WORK = Work(preset("llama3-8b"), 8192, 64)


def check(layout: Layout, work: Work = WORK, devices: int = 8) -> None:
    layout.check(work, Cluster(device("H100"), devices))


def test_a_layout_that_divides_is_taken() -> None:
    check(Layout(data=2, tensor=4))
    check(Layout(shard=8, zero=3))
    check(Layout(data=2, context=4))


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        (Layout(data=4), "4 ranks, and there are 8 devices"),
        (Layout(tensor=8, data=1, expert=2), "1 experts do not divide by expert=2"),
        (Layout(shard=8), "shard=8 is for zero=3"),
    ],
)
def test_a_layout_that_cannot_be_says_why(layout: Layout, why: str) -> None:
    with pytest.raises(JobError, match=why):
        check(layout)


def test_sequences_heads_and_layers_must_divide() -> None:
    with pytest.raises(JobError, match="3 sequences do not divide"):
        check(Layout(data=8), Work(preset("llama3-8b"), 8192, 3))
    with pytest.raises(JobError, match="heads do not divide by tensor=5"):
        check(Layout(tensor=5), devices=5)
    with pytest.raises(JobError, match="layers are too few"):
        check(Layout(pipeline=40), devices=40)
    with pytest.raises(JobError, match="does not divide by context=3"):
        check(Layout(context=3), devices=3)


def test_micro_batches_fill_the_batch() -> None:
    assert Layout(data=4, micro_batch=2).micro_batches(64) == 8
    assert Layout(data=4, micro_batch=3).micro_batches(64) == 6
    assert Layout(data=64, micro_batch=4).micro_batches(64) == 1


def test_what_is_sharded() -> None:
    assert Layout(shard=8, zero=3).sharded
    assert Layout(context=8, zero=3).sharded
    assert not Layout(data=8, zero=1).sharded


def test_a_layout_reads_as_its_axes() -> None:
    assert Layout(data=2, tensor=4, pipeline=2, stages_per_rank=3).text() == "data=2 tensor=4 pipeline=2 x3"
    assert Layout().text() == "one device"


def test_the_message_of_a_misfit_has_the_axes_that_were_asked_for() -> None:
    with pytest.raises(JobError) as caught:
        check(Layout(data=2, tensor=2), devices=8)
    assert "'data': 2" in str(caught.value) and "'tensor': 2" in str(caught.value) and "pipeline" not in str(caught.value)


def test_experts_share_ranks_of_data_and_add_none() -> None:
    layout = Layout(data=8, expert=8)
    assert layout.devices == 8
    check(layout, Work(preset("mixtral-8x7b"), 4096, 64))
    with pytest.raises(JobError, match="8 experts do not divide by expert=3"):
        check(Layout(data=8, expert=3), Work(preset("mixtral-8x7b"), 4096, 64))


def test_devices_and_replicas_are_products_of_their_axes() -> None:
    layout = Layout(data=2, shard=3, tensor=5, pipeline=7, context=11, zero=3)
    assert (layout.devices, layout.replicas) == (2 * 3 * 5 * 7 * 11, 6)
    assert layout.axes() == {"data": 2, "shard": 3, "tensor": 5, "pipeline": 7, "context": 11}


def test_a_ring_of_context_needs_two_parts_a_rank() -> None:
    check(Layout(context=8), Work(preset("llama3-8b"), 16 * 64, 64))
    with pytest.raises(JobError, match="does not divide by context=8"):
        check(Layout(context=8), Work(preset("llama3-8b"), 8 * 65, 64))


def test_an_interleaved_pipeline_counts_all_its_stages() -> None:
    check(Layout(pipeline=8, stages_per_rank=4))
    with pytest.raises(JobError, match="32 layers are too few for 40 stages"):
        check(Layout(pipeline=8, stages_per_rank=5))


def test_changed_axes_leave_the_first_layout_as_it_was() -> None:
    first = Layout(data=2, recompute="full")
    second = first.with_axes({"data": 4, "tensor": 2})
    assert (first.data, second.data, second.tensor, second.recompute) == (2, 4, 2, "full")


def test_a_shard_of_one_rank_is_not_sharded() -> None:
    assert not Layout(data=8, zero=3).sharded
    assert not Layout(shard=8, zero=1).sharded


def test_memory_rate_given_wins_over_the_catalogs() -> None:
    assert Cluster(device("H100"), 1).memory_rate == device("H100").memory_bytes_per_s
    assert Cluster(device("H100"), 1, memory_bytes_per_s=1e12).memory_rate == 1e12


def test_tokens_of_a_step_are_over_all_devices() -> None:
    assert Work(preset("llama3-8b"), 4096, 32).tokens == 131072
