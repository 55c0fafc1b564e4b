"""The mesh pass: `mesh: auto` becomes a mesh with its reasons; every other job stays as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bedplate.core.errors import JobError
from bedplate.core.plan import Plan, PlannedStep, Step
from bedplate.core.pool import Accelerator, Inventory, Placement, Pool
from bedplate.core.spec import Job, MeshAxes
from bedplate.flow.meshing import chosen_mesh, mesh_pass
from bedplate.train.checkpoints.interval import Rates
from bedplate.train.mesh import Mesh

SMALL = {"layers": 4, "hidden": 256, "heads": 4, "vocab": 1000, "sequence": 128, "batch": 32}
LARGE = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336, "vocab": 128256, "sequence": 8192, "batch": 64}
MACHINE = Inventory("here", "Linux", "a processor", 16, 64 * 2**30)
GPUS = tuple(Accelerator(index, "NVIDIA H100 80GB HBM3", 80 * 2**30, "570") for index in range(8))


def step(workers: int, accelerators: tuple[int, ...] = ()) -> PlannedStep:
    return PlannedStep(Step("fit", "job", (), {}), placement=Placement("local", "local", workers, accelerators))


def job(workers: object = 4, **fields: Any) -> Job:
    return Job(**{"function": "fit.py:fit", "mesh": "auto", "resources": {"workers": workers}, **fields})


def pool(devices: tuple[Accelerator, ...] = ()) -> Pool:
    return Pool("local", "local", (dataclasses.replace(MACHINE, accelerators=devices),))


def test_a_job_without_auto_is_left_alone() -> None:
    assert chosen_mesh(job(mesh=None), step(4), [pool()]) is None
    assert chosen_mesh(job(mesh={"shard": 4}), step(4), [pool()]) is None
    assert chosen_mesh(job(), PlannedStep(Step("fit", "job", (), {}), "fresh"), [pool()]) is None


def test_without_an_architecture_workers_have_copies() -> None:
    choice = chosen_mesh(job(), step(4), [pool()])
    assert choice is not None
    assert choice.mesh == {"data": 4}


def test_a_small_model_on_this_machine_has_copies_and_a_prediction() -> None:
    choice = chosen_mesh(job(architecture=SMALL), step(4), [pool()])
    assert choice is not None
    assert choice.mesh == {"data": 4}
    assert choice.prediction is not None


def test_a_large_model_on_accelerators_is_sharded() -> None:
    choice = chosen_mesh(
        job(8, architecture=LARGE, precision="bf16", activation_checkpointing=True, accumulate=8), step(8, tuple(range(8))), [pool(GPUS)]
    )
    assert choice is not None
    assert choice.mesh == {"shard": 8}


def test_a_range_of_workers_has_copies_as_their_number_may_change() -> None:
    choice = chosen_mesh(job("2..8", architecture=SMALL), step(8), [pool()])
    assert choice is not None
    assert choice.mesh == {}
    assert "their number may change" in choice.why[0]
    partly = chosen_mesh(job("2..8", mesh={"data": "auto", "tensor": 2}, architecture=SMALL), step(8), [pool()])
    assert partly is not None
    assert partly.mesh == {"tensor": 2}, "each generation has as many copies as there are workers for"


def test_a_model_that_fits_nowhere_stops_the_plan() -> None:
    with pytest.raises(JobError, match="no mesh of 2 workers"):
        chosen_mesh(job(2, architecture=LARGE), step(2), [pool()])


def test_the_pass_shows_the_mesh_in_the_plan() -> None:
    plan = Plan("x", (), (step(4), PlannedStep(Step("other", "job", (), {}))))
    meshed = mesh_pass(plan, {"fit": job(architecture=SMALL), "other": job(mesh=None)}, [pool()])
    told = meshed.step("fit").training
    assert told is not None
    assert told["mesh"] == {"data": 4}
    assert told["step_s"] > 0
    assert meshed.step("other").training is None
    assert "fit: mesh data 4; " in meshed.text()
    assert meshed.to_json()["steps"][0]["training"]["mesh"] == {"data": 4}


def test_an_axis_that_is_auto_is_planned_and_the_others_are_kept() -> None:
    choice = chosen_mesh(job(8, mesh={"data": "auto", "tensor": 2}, architecture=SMALL), step(8), [pool()])
    assert choice is not None
    assert choice.mesh == {"data": 4, "tensor": 2}
    both = chosen_mesh(job(8, mesh={"tensor": "auto", "pipeline": 2, "schedule": "GPipe"}, architecture=SMALL), step(8), [pool()])
    assert both is not None
    assert both.mesh["pipeline"] == 2
    assert both.mesh["schedule"] == "GPipe"
    assert both.mesh.get("data", 1) * both.mesh.get("tensor", 1) == 4


def test_without_an_architecture_data_takes_what_is_left() -> None:
    choice = chosen_mesh(job(8, mesh={"data": "auto", "pipeline": 2}), step(8), [pool()])
    assert choice is not None
    assert choice.mesh == {"data": 4, "pipeline": 2}


def test_a_mesh_without_auto_fills_its_copies_itself() -> None:
    declared = job(8, mesh={"pipeline": 2})
    assert chosen_mesh(declared, step(8), [pool()]) is None
    assert isinstance(declared.mesh, MeshAxes)
    assert Mesh.of(declared.mesh.model_dump(exclude_none=True), 8).sizes == {"pipeline": 2, "data": 4}


def test_a_batch_that_copies_cannot_share_is_cut_by_all_axes() -> None:
    architecture = {**SMALL, "kv_heads": 2, "batch": 6, "ffn": 512, "axes": ["data", "tensor", "pipeline"]}
    plan = mesh_pass(Plan("x", (), (step(8),)), {"fit": job(8, architecture=architecture)}, [pool()])
    told = plan.step("fit").training
    assert told is not None
    assert told["mesh"] == {"data": 2, "tensor": 2, "pipeline": 2, "micro_batches": 3}
    assert "  not tensor=2 pipeline=4: " in plan.text()


def test_frequent_checkpoints_cost_as_the_job_declares() -> None:
    def step_s(every: str, known: Rates | None = None) -> float:
        choice = chosen_mesh(job(architecture=SMALL, checkpoint=every), step(4), [pool()], known)
        assert choice is not None and choice.prediction is not None
        return choice.prediction.time.checkpoint_s / choice.prediction.time.total_s

    assert step_s("1s") > step_s("1m") > step_s("1h") > 0
    assert step_s("auto", Rates(mtbf_s=600.0, stall_s=0.1)) > step_s("auto"), "more failures, more checkpoints"
