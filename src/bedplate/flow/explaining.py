"""Explaining a run or a step: why it ran, waits or failed, and what would help. Reads only.

Does not know: how the explanation is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedplate.core.clock import human_duration, iso
from bedplate.core.errors import NotFound, nearest
from bedplate.core.record import AttemptRecord, RunRecord
from bedplate.core.run import POLICIES
from bedplate.core.spec import MeshAxes
from bedplate.flow.facts import run_is_alive
from bedplate.flow.goodput import goodput
from bedplate.flow.planner import plan
from bedplate.flow.workspace import Workspace

HELP = {
    "user_error": "correct the code or the data that the message names, and run it again; nothing else is run twice",
    "out_of_memory": "a smaller batch, more accumulation, or `on_out_of_memory: halve_micro_batch`, which does that by itself",
    "numeric": "a lower learning rate, clipped gradients, or `on_numeric: rollback`, which goes back and skips the batch",
    "timeout": "raise `max_time`, or give the job more workers",
    "crash_loop": "the program itself dies there: the log of that rank ends with the stacks of its threads",
    "worker_lost": "the process was killed more often than `max_restarts` allows: look for a lack of memory in the log, or raise it",
    "node_lost": "bring the machine back, or run elsewhere",
    "hang": "look at the stacks in the attempt's folder `stacks`; where the step is just slow, raise `hang_after`",
    "preempted": "the machine was taken away more often than `max_restarts` allows without a checkpoint in between: checkpoint more often",
}


def explain(workspace: Workspace, name: str) -> dict[str, Any]:
    """Lines of explanation by heading for a run, a step's newest run and its present verdict. Raises NotFound."""
    explained: dict[str, Any] = {}
    runs = workspace.records.runs
    steps = {} if name in runs else {step.step.name: step for step in plan(workspace).steps}  # a run that failed needs no plan
    if name not in steps and name not in runs and not workspace.records.of_step(name):
        raise NotFound("no such run or step", value=name, fix=nearest(name, [*steps, *runs]))
    if name in steps:
        now = steps[name]
        explained["now"] = f"{now.verdict}: {now.why}"
        if now.placement is not None:
            explained["where"] = f"{now.placement.pool}, {now.placement.world_size} worker(s). {now.placement.why}".strip()
        explained["fingerprint of"] = _fingerprint_of(workspace, name)
    if name in runs or workspace.records.of_step(name):
        explained |= _run(workspace, workspace.records.run(name))
    return explained


def _fingerprint_of(workspace: Workspace, name: str) -> str:
    made = workspace.records.of_step(name, "succeeded")
    return f"its declaration, code, packages and inputs{', as last made by ' + made[-1].id if made else ''}"


def _run(workspace: Workspace, run: RunRecord) -> dict[str, Any]:
    told: dict[str, Any] = {"run": f"{run.id} {run.status}", "why it ran": run.made["why"]}
    mesh = meshed(run.made.get("spec", {}))
    if mesh is not None:
        told["mesh"] = mesh
    for attempt in run.attempts:
        lasted = human_duration((attempt.ended_at_s or workspace.clock.now()) - attempt.started_at_s)
        text = f"{attempt.status} on {attempt.engine} after {lasted} from {iso(attempt.started_at_s)}"
        told[f"attempt {attempt.token}"] = text + (f": {attempt.failure}: {attempt.message}" if attempt.failure else "")
        told |= _in_place(attempt)
    if run.state.checkpoint and run.state.status != "succeeded":
        told["last checkpoint"] = f"step {run.state.checkpoint['step']}, a new attempt goes on from there"
    if not run.ended and run.attempts and not run_is_alive(run):
        told["process"] = "gone; the next `bedplate up`, `run` or `server` adopts the run and goes on"
    if run.message:
        told["message"] = run.message
    if run.failure is not None and run.failure in POLICIES:
        told["class of failure"] = f"{run.failure}: {POLICIES[run.failure].what}"
    if run.failure in HELP:
        told["what would help"] = HELP[run.failure]
    evaluation = workspace.records.evaluations.get(run.step, {})
    if evaluation.get("run") == run.id:
        told["decision"] = evaluation["decision"]["why"]
        told["metrics"] = evaluation["metrics"]
    ledger = goodput(workspace, run.id)
    if ledger.steps:
        told["goodput"] = ledger
    told["logs"] = f"bedplate logs {run.id}"
    return told


def meshed(spec: Mapping[str, Any]) -> str | None:
    """The mesh of a run and, where the planner chose it, why; None for one that has none."""
    mesh, chosen = spec.get("mesh"), spec.get("planned")
    if not mesh:
        return None
    named = [(name, mesh.get(name)) for name in MeshAxes.model_fields]
    unusual = {name: size for name, size in named if size not in (None, 1, "1F1B")} or {"data": 1}
    axes = ", ".join(f"{name} {size}" for name, size in unusual.items())
    return axes if chosen is None else "; ".join([f"{axes}, chosen by the planner", *chosen["why"]])


def _in_place(attempt: AttemptRecord) -> dict[str, str]:
    """What happened within an attempt: ranks that were replaced, and what ended nothing."""
    told = {}
    for restart in attempt.restarts:
        kept, size = restart.get("kept", 0), restart.get("world_size", 0)
        text = f"{restart['failure']}: {restart['why']}; went on at step {restart['resumed_at']}, {restart['lost_steps']} step(s) lost"
        told[f"attempt {attempt.token}, restart {restart['generation']}"] = f"{text}, {kept} of {size} processes kept"
    for number, notice in enumerate(attempt.notices, 1):
        stacks = f"; stacks in {', '.join(notice['stacks'])}" if notice.get("stacks") else ""
        told[f"attempt {attempt.token}, notice {number}"] = f"{notice['failure']}: {notice['message']}{stacks}"
    return told
