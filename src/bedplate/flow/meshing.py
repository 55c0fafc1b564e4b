"""The mesh pass: for a job with `mesh: auto`, or with an axis that is `auto`, what the planner of `train` chooses on the devices where the
job would run.

Does not know: how a mesh is judged (`train.planner`), or what a device is measured to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bedplate.core.clock import duration_s
from bedplate.core.device import Device
from bedplate.core.plan import Plan, PlannedStep
from bedplate.core.pool import Pool
from bedplate.core.spec import Architecture, Job, MeshAxes
from bedplate.hardware.catalog.reader import device, matching
from bedplate.train.checkpoints.interval import Rates, best_interval_s, rates
from bedplate.train.planner.choose import Choice, Code, choose_mesh
from bedplate.train.planner.layout import Work
from bedplate.train.planner.shape import Shape


def mesh_pass(plan: Plan, jobs: Mapping[str, Job], pools: Sequence[Pool], known: Mapping[str, Rates] | None = None) -> Plan:
    """The plan with a mesh for each step whose job leaves some of it to the planner. Raises JobError where none fits. Pure.

    `known` are failures and stalls by step, for what checkpoints cost where their interval is `auto`.
    """
    return replace(plan, steps=tuple(_meshed(planned, jobs.get(planned.step.name), pools, known or {}) for planned in plan.steps))


def chosen_mesh(job: Job, planned: PlannedStep, pools: Sequence[Pool], known: Rates | None = None) -> Choice | None:
    """The choice for a job with `mesh: auto`, or with an axis that is `auto`; None for any other."""
    if planned.placement is None or not job.mesh_is_planned:
        return None
    axes = job.mesh if isinstance(job.mesh, MeshAxes) else None
    workers, code = planned.placement.world_size, _code(job)
    least, most = job.resources.worker_range()
    if least != most:
        rest = {axis: size for axis, size in code.settled.items() if size > 1 and axis != "data"} if axes is not None else {}
        return Choice(rest, (f"with {least} to {most} workers `data` takes what the other axes leave: their number may change",), None)
    work = None if job.architecture is None else _work(job.architecture, job, workers, known)
    return choose_mesh(work, workers, _device(job, planned, pools), code)


def _meshed(planned: PlannedStep, job: Job | None, pools: Sequence[Pool], known: Mapping[str, Rates]) -> PlannedStep:
    choice = chosen_mesh(job, planned, pools, known.get(planned.step.name)) if job is not None else None
    return planned if choice is None else replace(planned, training=choice.to_json())


def _code(job: Job) -> Code:
    """What the job's code runs: with `mesh: auto` what `architecture` says, else every axis that the mesh names."""
    recompute = "full" if job.activation_checkpointing else "none"
    if not isinstance(job.mesh, MeshAxes):
        return Code(job.architecture.axes if job.architecture is not None else ("data",), recompute, job.accumulate)
    settled = job.mesh.settled
    runs = ("data", *job.mesh.planned, *(axis for axis, size in settled.items() if size > 1))
    return Code(runs, recompute, job.accumulate, settled, job.mesh.schedule, job.mesh.micro_batches)


def _work(architecture: Architecture, job: Job, workers: int, known: Rates | None) -> Work:
    kv_heads = architecture.kv_heads or architecture.heads
    ffn = architecture.ffn or 4 * architecture.hidden
    given = architecture.model_dump(include={"layers", "hidden", "heads", "vocab", "gated", "tied"})
    shape = Shape(name="the model", kv_heads=kv_heads, ffn=ffn, **given)
    work = Work(shape, architecture.sequence, architecture.batch, precision=job.precision)
    return replace(work, kernels="compiled" if job.compile else "eager", checkpoint_every_s=_checkpoint_every_s(job, workers, known))


def _checkpoint_every_s(job: Job, workers: int, known: Rates | None) -> float:
    """The interval that the run will begin with: the declared one, or for `auto` that of Young and Daly from what the ledger knows."""
    every = job.checkpoint.every
    if every != "auto":
        return duration_s(every)
    found = known or rates(0, 0.0, [])
    return best_interval_s(found.stall_s, found.mtbf_s / workers)


def _device(job: Job, planned: PlannedStep, pools: Sequence[Pool]) -> Device:
    """What one worker computes on: the accelerator that the step is placed on, or its cores of this machine."""
    assert planned.placement is not None
    pool = next(pool for pool in pools if pool.name == planned.placement.pool)
    machine = pool.machines[0]
    for accelerator in machine.accelerators:
        if accelerator.index in planned.placement.accelerators:
            known = matching(accelerator.model) or device("L4")
            return replace(known, memory_bytes=accelerator.memory_bytes)
    core, workers = device("CPU-core"), planned.placement.world_size
    memory_bytes = int(job.resources.memory_gb * 1e9) or machine.memory_bytes // workers
    return replace(
        core,
        name=f"{job.resources.cpus:g} cores of {machine.host}",
        peak_flops={name: flops * job.resources.cpus for name, flops in core.peak_flops.items()},
        memory_bytes=memory_bytes,
        memory_bytes_per_s=core.memory_bytes_per_s * job.resources.cpus,
    )
