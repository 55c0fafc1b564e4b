"""The planner: lower, select, judge, place. `plan` reads facts and starts nothing; the loop calls the same planner again as facts change.

Does not know: how facts are gathered, or how a plan is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bedplate.cluster.place import place
from bedplate.core.errors import BedplateError
from bedplate.core.loading import load
from bedplate.core.plan import Plan, Step
from bedplate.core.spec import ProjectSpec
from bedplate.flow.facts import Facts, gather, pinned_by
from bedplate.flow.intervals import explained
from bedplate.flow.lower import lower, select
from bedplate.flow.stale import judge
from bedplate.flow.tables import MESHING
from bedplate.flow.workspace import Workspace
from bedplate.models.declared_rules import check_expressions


def steps_for(spec: ProjectSpec, targets: Sequence[str]) -> tuple[Step, ...]:
    """The steps of `targets` and what they need. Raises NotFound for an unknown target and SpecError for a bad promotion rule."""
    for model in spec.trained.values():
        check_expressions(model.promote)
    return select(lower(spec), targets)


def plan_steps(project: str, targets: Sequence[str], steps: Sequence[Step], facts: Facts, force: Sequence[str] = (), on: str = "") -> Plan:
    """The plan of these steps under these facts, jobs in the pool `on` if one is named. Pure."""
    placed = place(Plan(project, tuple(targets), judge(steps, facts, force)), facts.pools, on)
    return replace(placed, steps=explained(placed.steps, facts.rates))


def steps_at(workspace: Workspace, targets: Sequence[str], at: str = "") -> tuple[Step, ...]:
    """The same, without what only made the tables that the snapshot `at` pins. Raises NotFound for a snapshot that is not there."""
    steps = steps_for(workspace.project.spec, targets)
    pinned = set(pinned_by(workspace.records, steps, at))
    cut = [replace(step, needs=()) if step.name in pinned else step for step in steps]
    kept = {step.name for step in select(cut, targets)} if targets else {step.name for step in steps}
    return tuple(replace(step, sources=()) if step.name in pinned else step for step in cut if step.name in kept)


def plan(workspace: Workspace, targets: Sequence[str] = (), force: Sequence[str] = (), on: str = "", at: str = "") -> Plan:
    """What would run, where and why, for `targets` (none: everything declared), with the tables of the snapshot `at`.

    Starts nothing and changes nothing.
    """
    steps = steps_at(workspace, targets, at)
    facts = gather(workspace, steps, at)
    planned = plan_steps(workspace.project.name, targets, steps, facts, force, on)
    jobs = workspace.project.spec.jobs
    if not any(step.name in jobs and jobs[step.name].mesh_is_planned for step in steps):
        return planned
    meshed: Plan = load(MESHING, "pass", "pass")(planned, jobs, facts.pools, facts.rates)
    return meshed


def check_run_targets(spec: ProjectSpec, targets: Sequence[str]) -> None:
    """Raises BedplateError for a target that only `up` may move: an experiment never touches an alias or an endpoint."""
    for target in targets:
        if target in spec.trained or target.partition(".")[0] in spec.endpoints:
            fix = f"run the job that trains it, or `bedplate up {target}` to promote and serve"
            raise BedplateError("`run` makes data, features and jobs; models and endpoints are moved by `up`", value=target, fix=fix)
