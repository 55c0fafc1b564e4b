"""The place pass: where each step would run. Pure: `(plan, pools) -> plan`.

A step goes to the first pool that holds it; this machine comes first.
Does not know: prices, policies (`offers`) or queues.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bedplate.core.errors import NotFound, Unavailable, nearest
from bedplate.core.plan import Plan, PlannedStep, Step
from bedplate.core.pool import Inventory, Placement, Pool
from bedplate.core.spec import Resources

GB = 10**9
ELSEWHERE = frozenset({"ssh", "slurm", "kubernetes", "ray", "sky"})  # engines whose machines do not have what lies here
_TPU = re.compile(r"(tpu.*|(tpu-?)?v[2-9](e|p|-lite|i)?(-\d+)?)", re.IGNORECASE)  # a type's name: v5e, v5p, tpu-v4
ROUNDING = 1e-9  # cores are sums of fractions such as 0.1


def place(plan: Plan, pools: Sequence[Pool], on: str = "") -> Plan:
    """The plan with a placement for each step that may run; steps that travel go to the pool `on`, where one is named.

    Raises Unavailable when no pool can hold a step, and NotFound for a pool that is not declared.
    """
    if on and on not in {pool.name for pool in pools}:
        raise NotFound("no such pool", value=on, fix=nearest(on, [pool.name for pool in pools]))
    return replace(
        plan, steps=tuple(step if step.verdict == "fresh" else _placed(step, _open(step.step, pools, on)) for step in plan.steps)
    )


def travels(step: Step) -> bool:
    """Whether a step may run on another machine: a job that writes no stream. What makes or serves data stays where the data lies."""
    outputs: Sequence[str] = step.spec.get("outputs") or ()
    return step.kind in ("job", "train") and not any(name.startswith("log://") for name in outputs)


def _open(step: Step, pools: Sequence[Pool], on: str) -> Sequence[Pool]:
    """The pools that a step may go to."""
    if travels(step):
        return [pool for pool in pools if pool.name == on] if on else pools
    return [pool for pool in pools if pool.engine not in ELSEWHERE]


def fits(running: Sequence[Resources], wanted: Resources, pool: Pool) -> bool:
    """Whether a step may start beside those that run: cores and memory suffice for all, and no accelerator is given to two of them.

    One may always run alone. Accelerators are given out from the first on, so of the steps that use any one runs at a time.
    """
    together = [*running, wanted]
    taken = {device for resources in running for device in _devices(resources, pool)}
    return not running or (
        sum(map(_cpus, together)) <= capacity(pool) + ROUNDING
        and sum(map(_memory_bytes, together)) <= sum(machine.memory_bytes for machine in pool.machines)
        and taken.isdisjoint(_devices(wanted, pool))
    )


def capacity(pool: Pool) -> float:
    """The cores of a pool."""
    return float(sum(machine.cores for machine in pool.machines))


def _placed(planned: PlannedStep, pools: Sequence[Pool]) -> PlannedStep:
    resources = planned.step.resources
    if not pools:
        raise Unavailable(f"step {planned.step.name!r} has nowhere to run", fix="declare a pool; this machine is one of its own accord")
    if resources.accelerator_range()[0] and _TPU.fullmatch(resources.accelerator_type):
        what = f"step {planned.step.name!r} asks for TPUs, and no engine here runs on any"
        kind = resources.accelerator_type
        fix = f"ask for GPUs, or for a range such as {kind}:0..{resources.accelerator_range()[1]}"
        raise Unavailable(what, value=resources.accelerators, fix=fix)
    refused: list[Unavailable] = []
    for pool in pools:
        try:
            return _placed_in(planned, pool)
        except Unavailable as error:
            refused.append(error)
    raise refused[0]  # what this machine lacks; the table of offers says the rest


def _placed_in(planned: PlannedStep, pool: Pool) -> PlannedStep:
    resources = planned.step.resources
    machine = pool.machines[0]
    if _memory_bytes(resources) > machine.memory_bytes:
        need = f"{_count(resources.workers, 'worker')} of {resources.memory_gb:g} GB"
        fix = f"ask for less: pool {pool.name!r} has {machine.memory_bytes / GB:.1f} GB"
        raise Unavailable(f"step {planned.step.name!r} does not fit in memory", value=need, fix=fix)
    least, most = resources.accelerator_range()
    devices = _devices(resources, pool)
    if len(devices) < least * resources.workers:
        need = f"{_count(resources.workers, 'worker')} with {least} each"
        kind = resources.accelerator_type
        need, range_ = (f"{need}, of type {kind}", f"{kind}:0..{most}") if kind else (need, f"0..{most}")
        fix = f"pool {pool.name!r} has {len(_of_type(resources, pool))}; ask for a range such as {range_}, or for fewer workers"
        raise Unavailable(f"step {planned.step.name!r} needs more accelerators than there are", value=need, fix=fix)
    chosen = _sized(resources, machine)
    placement = Placement(pool.name, pool.engine, chosen.workers, _devices(chosen, pool), _why(chosen, machine, _devices(chosen, pool)))
    return replace(planned, placement=placement)


def _sized(resources: Resources, machine: Inventory) -> Resources:
    """With as many workers, within their range, as the machine has cores and accelerators for."""
    low, high = resources.worker_range()
    by_cores = int((machine.cores + ROUNDING) / resources.cpus)
    least, _ = resources.accelerator_range()
    by_devices = len(machine.accelerators) // least if least else high
    return resources.model_copy(update={"workers": max(low, min(high, by_cores, by_devices))})


def _devices(resources: Resources, pool: Pool) -> tuple[int, ...]:
    """The accelerators that its workers get, each the same number: as many as there are, up to the most that it can use."""
    there = _of_type(resources, pool)
    each = min(resources.accelerator_range()[1], len(there) // resources.workers)
    return tuple(there[: each * resources.workers])


def _of_type(resources: Resources, pool: Pool) -> list[int]:
    """The accelerators of the type that is asked for: their model names it (`H100` in `NVIDIA H100 80GB HBM3`)."""
    kind = resources.accelerator_type.casefold()
    return [device.index for device in pool.machines[0].accelerators if kind in device.model.casefold()]


def _why(resources: Resources, machine: Inventory, devices: Sequence[int]) -> str:
    wanted = _cpus(resources)
    workers = _count(resources.workers, "worker")
    if wanted <= machine.cores + ROUNDING:
        why = f"{workers} on {wanted:g} of {_count(machine.cores, 'core')}"
    elif resources.workers > 1:
        why = f"{workers} share {_count(machine.cores, 'core')}"
    else:
        why = f"{workers} wants {wanted:g} cores and gets {machine.cores}"
    if resources.accelerator_range()[1] == 0:
        return why
    return f"{why}, {len(devices) or 'none'} of {_count(len(machine.accelerators), 'accelerator')}"


def _cpus(resources: Resources) -> float:
    return resources.workers * resources.cpus


def _memory_bytes(resources: Resources) -> float:
    return resources.workers * resources.memory_gb * GB


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
