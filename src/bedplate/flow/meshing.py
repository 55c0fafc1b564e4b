"""The mesh pass: for a job with `mesh: auto`, the mesh that the planner of `train` chooses on the devices where the job would run.

Does not know: how a mesh is judged (`train.planner`), or what a device is measured to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bedplate.core.device import Device
from bedplate.core.plan import Plan, PlannedStep
from bedplate.core.pool import Pool
from bedplate.core.spec import Architecture, Job
from bedplate.hardware.catalog.reader import device, matching
from bedplate.train.planner.choose import Choice, choose_mesh
from bedplate.train.planner.layout import Work
from bedplate.train.planner.shape import Shape


def mesh_pass(plan: Plan, jobs: Mapping[str, Job], pools: Sequence[Pool]) -> Plan:
    """The plan with a mesh for each step whose job says `mesh: auto`. Raises JobError where none fits. Pure."""
    return replace(plan, steps=tuple(_meshed(planned, jobs.get(planned.step.name), pools) for planned in plan.steps))


def chosen_mesh(job: Job, planned: PlannedStep, pools: Sequence[Pool]) -> Choice | None:
    """The choice for a job that leaves it to the planner; None for any other."""
    if job.mesh != "auto" or planned.placement is None:
        return None
    least, most = job.resources.worker_range()
    if least != most:
        return Choice({}, (f"with {least} to {most} workers every worker has a copy of the model: their number may change",), None)
    work = None if job.architecture is None else _work(job.architecture, job)
    runs = job.architecture.axes if job.architecture is not None else ("data",)
    recompute = "full" if job.activation_checkpointing else "none"
    device_ = _device(job, planned, pools)
    return choose_mesh(work, planned.placement.world_size, device_, runs, recompute=recompute, accumulate=job.accumulate)


def _meshed(planned: PlannedStep, job: Job | None, pools: Sequence[Pool]) -> PlannedStep:
    choice = chosen_mesh(job, planned, pools) if job is not None else None
    return planned if choice is None else replace(planned, training=choice.to_json())


def _work(architecture: Architecture, job: Job) -> Work:
    kv_heads = architecture.kv_heads or architecture.heads
    ffn = architecture.ffn or 4 * architecture.hidden
    given = architecture.model_dump(include={"layers", "hidden", "heads", "vocab", "gated", "tied"})
    shape = Shape(name="the model", kv_heads=kv_heads, ffn=ffn, **given)
    kernels = "compiled" if job.compile else "eager"
    return Work(shape, architecture.sequence, architecture.batch, precision=job.precision, kernels=kernels)  # type: ignore[arg-type]  # both are literals there


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
