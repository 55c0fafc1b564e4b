"""From a planned step to an attempt: what `run.created` records, and the file that a worker is given.

Does not know: engines (the loop hands an attempt to one) or what a step computes.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.clock import duration_s
from bedplate.core.digest import digest
from bedplate.core.errors import BedplateError
from bedplate.core.event import Draft
from bedplate.core.loading import load
from bedplate.core.plan import PlannedStep, Step
from bedplate.core.record import RunRecord
from bedplate.core.spec import Job, MeshAxes, Promote
from bedplate.core.versions import Version
from bedplate.flow.closure import snapshot
from bedplate.flow.facts import Facts, Made, is_present, location_of
from bedplate.flow.intervals import checkpoint_settings
from bedplate.flow.stale import components
from bedplate.flow.tables import DECIDING, MESHING
from bedplate.flow.workspace import Workspace
from bedplate.models.declared_rules import to_compare

ENVIRONMENTS = "environments"
GB = 10**9
SCHEDULED = frozenset({"slurm", "kubernetes"})  # engines that say themselves which devices a process sees


def run_created(workspace: Workspace, launch: str, planned: PlannedStep, outputs: Mapping[str, Made], facts: Facts) -> Draft:
    """The event that a run of this step begins with. `outputs` holds what each needed step made.

    Raises BedplateError when the step cannot start as things are.
    """
    step = planned.step
    inputs = _inputs(workspace, step, outputs, facts)
    assert planned.fingerprint is not None and planned.placement is not None
    job = workspace.project.spec.jobs.get(step.name)
    code = facts.code.get(step.name)
    payload: dict[str, Any] = {
        "step": step.name,
        "kind": step.kind,
        "launch": launch,
        "fingerprint": planned.fingerprint,
        "components": components(step, facts, {need: _given(step, need, outputs, facts) for need in step.needs}),
        "why": planned.why,
        "spec": {
            **step.spec,
            **_job_settings(job, planned, facts),
            **_checkpoint_settings(job, planned, facts),
            **_packaging(workspace, step, facts),
        },
        "inputs": {name: version.ref for name, version in inputs.items()},
        "code": snapshot(workspace.project.root, workspace.code_store, code) if code else None,
        "environment": environment(workspace.state / "environment.json"),
        "hardware": _hardware(facts, planned.placement.pool),
        "placement": planned.placement.to_json(),
        "resources": step.resources.model_dump(mode="json"),
        "params": dict(job.params) if job else {},
        "max_restarts": job.max_restarts if job else 3,
        "resume": _resume(workspace, planned.fingerprint),
    }
    number = len(workspace.records.of_step(step.name)) + 1
    return Draft("run.created", f"{step.name}-{number}", payload, key=f"created/{step.name}-{number}")


def waivers(workspace: Workspace, step: Step, created: Draft) -> list[Draft]:
    """What is recorded beside the start of an endpoint whose model has no decision that holds, where that is allowed.

    Raises EvidenceError where it is not.
    """
    if step.kind != "endpoint":
        return []
    version = workspace.records.version(created.payload["inputs"][step.spec["model"]])
    drafts: list[Draft] = load(DECIDING, "admitted", "decision")(workspace, step.name, version, step.spec["alias"])
    return drafts


def _given(step: Step, need: str, outputs: Mapping[str, Made], facts: Facts) -> Mapping[str, Version]:
    if need in facts.aliased:
        return {need: facts.aliased[need]}
    return {} if step.kind == "endpoint" and need == step.spec["model"] else outputs[need].outputs


def _inputs(workspace: Workspace, step: Step, outputs: Mapping[str, Made], facts: Facts) -> dict[str, Version]:
    given = {name: version for need in step.needs for name, version in _given(step, need, outputs, facts).items()}
    inputs = {name: version for name, version in given.items() if not step.reads or name in step.reads}
    model = step.spec["model"] if step.kind == "endpoint" else step.spec.get("base")
    if model is not None and model not in inputs:
        alias = step.spec.get("alias", "its alias")
        decision = workspace.records.evaluations.get(model, {}).get("decision", {})
        fix = f"see `bedplate explain {model}`, or `bedplate promote {model}@N --reason ...`"
        raise BedplateError(f"no version of {model!r} is in {alias}: the gate held it", value=decision.get("why"), fix=fix)
    if step.kind == "gate" and step.name in facts.aliased:
        inputs["production"] = facts.aliased[step.name]
        inputs |= _trained_on(workspace, step, facts.aliased[step.name])
    return inputs


def _trained_on(workspace: Workspace, step: Step, production: Version) -> dict[str, Version]:
    """The training set of production, for rules that name a drift; nothing when no run of ours trained it."""
    if not to_compare(Promote.model_validate(step.spec["promote"])):
        return {}
    run = workspace.records.runs.get(production.run)
    refs = [ref for name, ref in run.made.get("inputs", {}).items() if name.endswith(".inputs")] if run is not None else []
    versions = [version for version in map(workspace.records.version, refs) if is_present(workspace, version)]
    return {"production.inputs": versions[0]} if versions else {}


def _packaging(workspace: Workspace, step: Step, facts: Facts) -> dict[str, Any]:
    """What a step that may make a model is told: which files somebody vouched for, and the packages that its code imports."""
    if step.kind not in ("job", "train", "model"):
        return {}
    trusted, code = sorted(workspace.records.trusted), facts.code.get(step.name)
    packages = {"packages": dict(code.packages)} if code and step.spec.get("command") else {}
    return {**({"trusted": trusted} if trusted else {}), **packages}


def _job_settings(job: Job | None, planned: PlannedStep, facts: Facts) -> dict[str, Any]:
    if job is None:
        return {}
    limit = duration_s(job.max_time) if job.max_time else None
    profiled = {"profile": job.profile.model_dump()} if job.profile is not None else {}
    return {**_recovery_settings(job), **_mesh_settings(job, planned, facts), **profiled, "max_time_s": limit}


def _checkpoint_settings(job: Job | None, planned: PlannedStep, facts: Facts) -> dict[str, Any]:
    if job is None:
        return {}
    assert planned.placement is not None
    return {"checkpoint": checkpoint_settings(job, facts.rates.get(planned.step.name), planned.placement.world_size)}


def _mesh_settings(job: Job, planned: PlannedStep, facts: Facts) -> dict[str, Any]:
    """How the model is computed. Without a mesh of its own a job is pure data parallel; with `auto` the planner chooses."""
    chosen = load(MESHING, "choice", "mesh") if job.mesh_is_planned else None
    choice = chosen(job, planned, facts.pools, facts.rates.get(planned.step.name)) if chosen else None
    mesh = dict(choice.mesh) if choice else job.mesh.model_dump(exclude_none=True) if isinstance(job.mesh, MeshAxes) else None
    named = ("precision", "accumulate", "activation_checkpointing", "compile")
    told = {"planned": choice.to_json()} if choice else {}
    return {**({"mesh": mesh} if mesh else {}), **told, **{name: getattr(job, name) for name in named}}


def _recovery_settings(job: Job) -> dict[str, Any]:
    """What is done about failures; none of it is part of the fingerprint."""
    named = ("recovery", "on_log", "on_out_of_memory", "on_numeric", "rollback", "loss_spike", "preemption_notice")
    return {
        **{name: getattr(job, name) for name in named},
        "hang_after_s": duration_s(job.hang_after) if job.hang_after else None,
        "start_limit_s": duration_s(job.start_limit),
        "workers": list(job.resources.worker_range()),
    }


def _resume(workspace: Workspace, fingerprint: str) -> Mapping[str, Any] | None:
    """The checkpoint at which the last run of this fingerprint stopped or failed. After a success there is nothing to go on with."""
    ended = [run for run in workspace.records.runs.values() if run.fingerprint == fingerprint and run.ended]
    return ended[-1].state.checkpoint if ended and ended[-1].state.status != "succeeded" else None


def environment(memory: Path) -> dict[str, Any]:
    """The Python environment of this process: interpreter, platform, and the digest of all installed distributions.

    Reading every distribution takes 0.1 s, so the result is remembered in the file `memory` until the modification time of a folder of
    distributions changes, as every installation does to it. The list itself is kept beside it, by its digest.
    """
    folders = [[entry, Path(entry).stat().st_mtime_ns] for entry in sys.path if _has_distributions(Path(entry))]
    known = json.loads(memory.read_text()) if memory.exists() else {}
    if known.get("folders") != folders:
        packages = sorted({f"{found.name}=={found.version}" for found in importlib.metadata.distributions()})
        known = {"folders": folders, "packages": len(packages), "lock": digest(packages)}
        write_json(memory.parent / ENVIRONMENTS / f"{known['lock']}.json", packages)  # so that a replay can name what changed
        write_json(memory, known)
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": known["packages"], "lock": known["lock"]}


def _has_distributions(folder: Path) -> bool:
    """Whether packages are installed there; the working folder, which is on the path too, changes all the time."""
    return folder.is_dir() and any(each.suffix in (".dist-info", ".egg-info") for each in folder.iterdir())


def _hardware(facts: Facts, place: str) -> dict[str, Any]:
    """This machine as it was found, or one of the pool `place` as it is declared."""
    machine = next(pool for pool in facts.pools if pool.name == place).machines[0]
    devices = [device.model for device in machine.accelerators]
    return {
        "host": machine.host,
        "processor": machine.processor,
        "cores": machine.cores,
        "memory_bytes": machine.memory_bytes,
        "devices": devices,
    }


def _visible(devices: tuple[int, ...]) -> dict[str, str]:
    """What makes a command see the devices that the plan gave it, as the driver counts them. Our own workers choose theirs by index."""
    listed = ",".join(map(str, devices))
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": listed} if devices else {}


def _asks(resources: Mapping[str, Any], workers: int) -> dict[str, float]:
    return {"cpus": resources["cpus"] * workers, "memory_bytes": resources["memory_gb"] * GB * workers}


def make_attempt(workspace: Workspace, run: RunRecord, token: int, checkpoint: Mapping[str, Any] | None) -> Attempt:
    """The attempt of `run` with fencing token `token`. Pure but for reading records."""
    made = run.made
    folder = workspace.attempt_folder(run.id, token)
    command = made["spec"].get("command")
    world_size = made["placement"]["world_size"]
    code = made["code"]
    inputs = {name: workspace.records.version(ref) for name, ref in made["inputs"].items()}
    devices = tuple(made["placement"]["accelerators"])
    worker = (sys.executable, "-m", "bedplate.flow.worker", str(folder))
    return Attempt(
        run=run.id,
        token=token,
        step=run.step,
        kind=run.kind,
        folder=str(folder),
        root=str(workspace.project.root),
        state=str(workspace.state),
        lake=workspace.lake_uri,
        code=str(workspace.code_store / code["snapshot"]) if code else str(workspace.project.root),
        spec={**made["spec"], "restarts_left": max(0, run.state.max_restarts - run.state.restarts)},
        inputs={name: {**version.to_json(), "path": str(location_of(workspace, version))} for name, version in inputs.items()},
        argv=("/bin/sh", "-c", command) if command else worker,
        shim_argv=(sys.executable, "-m", "bedplate.flow.shim", str(folder)),
        processes=world_size if command else 1,
        world_size=world_size,
        accelerators=devices,
        environment=_visible(devices) if command and made["placement"]["engine"] not in SCHEDULED else {},
        checkpoint=checkpoint,
        max_time_s=made["spec"].get("max_time_s"),
        restart=run.kind == "endpoint",
        excluded=run.state.excluded,
        asks=_asks(made["resources"], world_size),
    )
