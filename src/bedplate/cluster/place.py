"""The place pass: where each step would run. Pure: `(plan, pools) -> plan`.

Does not know: prices, policies or queues; one pool, this machine, is all there is to choose from yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bedplate.core.errors import Unavailable
from bedplate.core.plan import Plan, PlannedStep
from bedplate.core.pool import Placement, Pool
from bedplate.core.spec import Resources

GB = 10**9


def place(plan: Plan, pools: Sequence[Pool]) -> Plan:
    """The plan with a placement for each step that may run. Raises Unavailable when no pool can hold a step."""
    return replace(plan, steps=tuple(step if step.verdict == "fresh" else _placed(step, pools) for step in plan.steps))


def fits(running: Sequence[Resources], wanted: Resources, pool: Pool) -> bool:
    """Whether a step may start beside those that run. One may always run alone, however many cores it asks for."""
    taken = sum(resources.workers * resources.cpus for resources in running)
    return not running or taken + wanted.workers * wanted.cpus <= cores(pool)


def cores(pool: Pool) -> int:
    """The cores of a pool."""
    return sum(machine.cores for machine in pool.machines)


def _placed(planned: PlannedStep, pools: Sequence[Pool]) -> PlannedStep:
    pool = pools[0]
    resources = planned.step.resources
    machine = pool.machines[0]
    memory_bytes = resources.workers * resources.memory_gb * GB
    if memory_bytes > machine.memory_bytes:
        need = f"{resources.workers} workers of {resources.memory_gb:g} GB"
        fix = f"ask for less: {pool.name!r} has {machine.memory_bytes / GB:.1f} GB"
        raise Unavailable(f"step {planned.step.name!r} does not fit in memory", value=need, fix=fix)
    devices = _devices(planned, resources, pool)
    wanted = resources.workers * resources.cpus
    why = f"{wanted:g} cores wanted, {cores(pool)} there: they share" if wanted > cores(pool) else ""
    placement = Placement(pool.name, pool.engine, resources.workers, devices, why)
    return replace(planned, placement=placement)


def _devices(planned: PlannedStep, resources: Resources, pool: Pool) -> tuple[int, ...]:
    least, most = resources.accelerator_range()
    there = [device.index for device in pool.machines[0].accelerators]
    each = min(most, len(there) // resources.workers)
    if each < least:
        need = f"{resources.workers} workers with {least} each"
        fix = f"{pool.name!r} has {len(there)}; ask for a range such as 0..{most}, or for fewer workers"
        raise Unavailable(f"step {planned.step.name!r} needs more accelerators than there are", value=need, fix=fix)
    return tuple(there[: each * resources.workers])
