"""`mesh: auto`: what is chosen is what the code can run, fits, and is simple where that costs nothing."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.device import Device
from bedplate.core.errors import JobError
from bedplate.hardware.catalog.reader import device
from bedplate.train.mesh import Mesh
from bedplate.train.planner.choose import Choice
from bedplate.train.planner.choose import choose_mesh as choose
from bedplate.train.planner.layout import Work
from bedplate.train.planner.presets import preset

H100 = device("H100-SXM")


def choose_mesh(
    work: Work | None, workers: int, device: Device, runs: tuple[str, ...], recompute: str = "full", accumulate: int = 1
) -> Choice:
    """Most cases checkpoint activations and do not cut the batch."""
    return choose(work, workers, device, runs, recompute=recompute, accumulate=accumulate)


ALL = ("data", "shard", "tensor", "pipeline")


def test_without_an_architecture_every_worker_has_a_copy() -> None:
    choice = choose_mesh(None, 4, H100, ALL)
    assert choice.mesh == {"data": 4}
    assert "no architecture" in choice.why[0]
    assert choice.prediction is None
    assert choice.to_json() == {"mesh": {"data": 4}, "why": list(choice.why)}


def test_a_model_that_fits_is_copied_where_sharding_gains_nothing() -> None:
    assert choose_mesh(Work(preset("gpt2"), 1024, 64), 4, H100, ALL).mesh == {"data": 4}


def test_a_model_that_does_not_fit_is_sharded_and_the_reason_is_told() -> None:
    choice = choose_mesh(Work(preset("llama3-8b"), 8192, 64), 8, H100, ("data", "shard"), accumulate=8)
    assert choice.mesh == {"shard": 8}
    assert any(why.startswith("copies of the whole model: ") for why in choice.why)


@pytest.mark.parametrize("runs", [("data",), ("data", "shard"), ("data", "tensor"), ("data", "shard", "tensor"), ALL])
def test_no_axis_is_used_that_the_code_cannot_run(runs: tuple[str, ...]) -> None:
    work = Work(preset("llama3-70b"), 8192, 128)
    try:
        choice = choose_mesh(work, 64, H100, runs, accumulate=2)
    except JobError as error:
        assert "no mesh of 64 workers that this code can run" in str(error)
        assert runs in (("data",), ("data", "tensor"))
        return
    axes = set(choice.mesh) - {"micro_batches", "schedule"}
    assert axes <= {*runs, "data"}
    assert Mesh.of(choice.mesh, 64).world_size == 64


def test_tensor_ranks_divide_key_value_heads() -> None:
    work = Work(dataclasses.replace(preset("llama3-70b"), kv_heads=2), 8192, 128)
    assert choose_mesh(work, 64, H100, ("data", "shard", "tensor"), accumulate=2).mesh.get("tensor", 1) <= 2


def test_a_mesh_with_a_pipeline_has_micro_batches_enough() -> None:
    work = Work(preset("llama3-70b"), 8192, 512)
    choice = choose_mesh(work, 64, H100, ("data", "tensor", "pipeline"))
    assert choice.mesh["pipeline"] > 1
    assert choice.mesh["micro_batches"] >= choice.mesh["pipeline"]
    Mesh.of(choice.mesh, 64)


def test_what_fits_nowhere_says_what_lacks() -> None:
    with pytest.raises(JobError, match=r"GiB too much.*axes"):
        choose_mesh(Work(preset("llama3-405b"), 8192, 8), 8, H100, ALL)


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(JobError, match="no such axis"):
        choose_mesh(Work(preset("gpt2"), 1024, 8), 2, H100, ("data", "width"))


def test_the_prediction_comes_along() -> None:
    told = choose_mesh(Work(preset("gpt2"), 1024, 64), 4, H100, ALL).to_json()
    assert told["step_s"] > 0
    assert told["memory_bytes"] < H100.memory_bytes
    assert told["tokens_per_s"] == pytest.approx(64 * 1024 / told["step_s"])


def test_cutting_the_batch_makes_room() -> None:
    work = Work(preset("llama3-8b"), 8192, 64)
    with pytest.raises(JobError, match="raise `accumulate`"):
        choose_mesh(work, 8, H100, ("data", "shard"), recompute="none")
    assert choose_mesh(work, 8, H100, ("data", "shard"), recompute="none", accumulate=8).mesh == {"shard": 8}


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["gpt2", "mpt-125m"]),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.sampled_from([1, 3]),
    st.sets(st.sampled_from(["shard", "tensor", "pipeline"])),
)
def test_what_is_chosen_is_a_mesh_of_all_workers_that_the_code_can_run(name: str, workers: int, rounds: int, axes: set[str]) -> None:
    """Models that fit as copies, and a batch that all of these divide: there is always a mesh."""
    choice = choose_mesh(Work(preset(name), 1024, 48), workers, H100, ("data", *axes), accumulate=rounds)
    assert Mesh.of(choice.mesh, workers).world_size == workers
    assert set(choice.mesh) <= {"data", "micro_batches", *axes}
    assert choice.prediction is not None and choice.prediction.memory.total_bytes < H100.memory_bytes
    assert choice.why[0].startswith(choice.prediction.layout.text() + " needs ")
    if "pipeline" not in choice.mesh:
        layout = choice.prediction.layout
        assert 48 // layout.replicas // layout.micro_batch == rounds, "the code cuts the batch, not the planner"


def test_one_worker_has_no_mesh_to_choose() -> None:
    assert choose_mesh(Work(preset("gpt2"), 1024, 8), 1, H100, ALL).mesh == {"data": 1}


def test_tensor_ranks_divide_words_and_inner_width_as_well() -> None:
    shape = preset("llama3-70b")
    for odd in ({"vocab": 128_257}, {"ffn": 28_673}):
        work = Work(dataclasses.replace(shape, **odd), 8192, 128)
        assert "tensor" not in choose_mesh(work, 64, H100, ("data", "shard", "tensor"), accumulate=2).mesh
