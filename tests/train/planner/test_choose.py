"""`mesh: auto`: what is chosen is what the code can run, fits, and is simple where that costs nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.device import Device
from bedplate.core.errors import JobError
from bedplate.hardware.catalog.reader import device
from bedplate.train.decoder import Decoder, DecoderConfig
from bedplate.train.execution import micro_batches
from bedplate.train.mesh import STAGES_PER_RANK, Mesh
from bedplate.train.plan import plan_of
from bedplate.train.planner.choose import Choice, Code
from bedplate.train.planner.choose import choose_mesh as choose
from bedplate.train.planner.layout import Work
from bedplate.train.planner.presets import preset
from bedplate.train.planner.shape import Shape
from bedplate.train.stages import blocks_of
from bedplate.train.tensor import check_divided

H100 = device("H100-SXM")


def choose_mesh(
    work: Work | None, workers: int, device: Device, runs: tuple[str, ...], recompute: str = "full", accumulate: int = 1
) -> Choice:
    """Most cases checkpoint activations and do not cut the batch."""
    return choose(work, workers, device, Code(runs, recompute, accumulate))


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


def shape_of(layers: int, kv_heads: int, groups: int, head: int, **rest: Any) -> Shape:
    """A shape whose heads and widths fit together."""
    heads = kv_heads * groups
    return Shape("x", layers, heads * head, heads, kv_heads, **rest)


SHAPES = st.builds(
    shape_of,
    st.integers(1, 7),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([2, 4, 8]),
    ffn=st.integers(1, 48),
    vocab=st.integers(8, 96),
    tied=st.booleans(),
)
CODES = st.builds(
    Code,
    st.sets(st.sampled_from(["shard", "tensor", "pipeline"])).map(lambda axes: ("data", *sorted(axes))),
    st.sampled_from(["none", "full"]),
    st.integers(1, 3),
    st.dictionaries(st.sampled_from(["tensor", "pipeline", "data"]), st.integers(1, 3), max_size=2),
    st.sampled_from(sorted(STAGES_PER_RANK)),
)


def runs(shape: Shape, chosen: Mapping[str, Any], workers: int, batch: int, accumulate: int) -> None:
    """What a run does with a mesh before its first step, on a decoder of that shape: raises JobError for one that it cannot run."""
    mesh = Mesh.of(chosen, workers)
    sizes = (shape.vocab, shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.ffn)
    with torch.device("meta"):
        model = Decoder(DecoderConfig(*sizes, tied=shape.tied))
    plan = plan_of(model)
    if mesh.tensor > 1:
        check_divided(plan, mesh.tensor)
    assert len(blocks_of(model, plan, mesh.stages)) == mesh.stages
    assert batch % mesh.batch_ranks == 0
    rows = {"tokens": torch.zeros(batch // mesh.batch_ranks, 4)}
    assert len(list(micro_batches(rows, mesh.pipeline_micro_batches * accumulate))) == mesh.pipeline_micro_batches * accumulate


@settings(max_examples=300, deadline=None)
@given(SHAPES, CODES, st.sampled_from([1, 2, 3, 4, 6, 8, 12]), st.integers(1, 48))
def test_what_is_chosen_for_any_decoder_is_what_a_run_can_run(shape: Shape, code: Code, workers: int, batch: int) -> None:
    """Whatever the heads, layers and widths: the code cuts the model and the batch as chosen, or there is one error and no mesh."""
    code = dataclasses.replace(code, runs=(*code.runs, *(axis for axis, size in code.settled.items() if size > 1)))
    try:
        choice = choose(Work(shape, 16, batch, precision="fp32"), workers, device("CPU-core"), code)
    except JobError as error:
        assert error.fix
        return
    runs(shape, choice.mesh, workers, batch, code.accumulate)
    for axis, size in code.settled.items():
        assert choice.mesh.get(axis, 1) == size
    assert {axis for axis in choice.mesh if axis not in ("schedule", "micro_batches")} <= {*code.runs, *code.settled, "data"}


def test_nearly_always_there_is_a_mesh() -> None:
    """The property above would hold for a planner that refuses everything."""
    shape = Shape("x", 4, 32, 4, 2, 64, 64)
    everything = Code(ALL)
    for workers in (1, 2, 3, 4, 6, 8, 12, 16):
        choice = choose(Work(shape, 16, 48, precision="fp32"), workers, device("CPU-core"), everything)
        runs(shape, choice.mesh, workers, 48, 1)


def test_a_batch_that_copies_cannot_share_becomes_data_tensor_and_pipeline() -> None:
    work = Work(Shape("x", 4, 32, 4, 2, 64, 512), 32, 6, precision="fp32", kernels="eager")
    choice = choose(work, 8, device("CPU-core"), Code(("data", "tensor", "pipeline")))
    assert choice.mesh == {"data": 2, "tensor": 2, "pipeline": 2, "micro_batches": 3}
    assert choice.why[1] == "copies of the whole model: 6 sequences cannot be dealt to 8 workers in equal micro-batches"
    others = dict(choice.others)
    assert "a larger bubble" in others["tensor=2 pipeline=4"]
    assert others["data=2 tensor=4"] == "4 tensor ranks cannot share the key-value heads, 2"


def test_what_is_settled_is_kept_and_the_others_are_told() -> None:
    work = Work(Shape("x", 4, 32, 4, 2, 64, 512), 32, 24, precision="fp32", kernels="eager")
    code = Code(("data", "tensor", "pipeline"), settled={"pipeline": 2}, schedule="Interleaved1F1B", micro_batches=4)
    choice = choose(work, 4, device("CPU-core"), code)
    assert choice.mesh == {"data": 2, "pipeline": 2, "schedule": "Interleaved1F1B", "micro_batches": 4}
    assert len(choice.why) == 1, "copies were not to be had"
    assert choice.to_json()["others"].keys() == {"tensor=2 pipeline=2 x2"}


def test_without_an_architecture_the_rest_is_data() -> None:
    assert choose(None, 8, H100, Code(("data", "tensor"), settled={"tensor": 2})).mesh == {"tensor": 2, "data": 4}
    driven = Code(("data", "pipeline"), settled={"pipeline": 2}, schedule="GPipe")
    assert choose(None, 4, H100, driven).mesh == {"pipeline": 2, "data": 2, "schedule": "GPipe"}
    with pytest.raises(JobError, match="only `data` can be left"):
        choose(None, 8, H100, Code(("data", "tensor"), settled={"data": 2}))
