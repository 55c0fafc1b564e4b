"""Accepting what an attempt made: its outputs become versions, its evaluation a decision, in one transaction with the end of its run.

Only what the attempt under the current token wrote is ever accepted. Equal content made again is the version that is there already.
Does not know: journals' files (the loop reads them) or how a decision is reached (the gate's worker asked `models.gate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bedplate.core.event import Draft
from bedplate.core.journal import Entry
from bedplate.core.loading import load
from bedplate.core.record import RunRecord
from bedplate.core.run import Finish
from bedplate.core.versions import Output, Version
from bedplate.flow.facts import is_present
from bedplate.flow.tables import DECIDING, SERIES
from bedplate.flow.workspace import Workspace


@dataclass
class Findings:
    """What an attempt's journal said so far, apart from metrics, which go to the series store."""

    outputs: list[Output] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: list[Mapping[str, Any]] = field(default_factory=list)
    metrics: bool = False

    def add(self, entry: Entry) -> None:
        """Take one more entry."""
        if entry.kind == "output":
            output = Output.from_json(entry.body)
            self.outputs = [*(known for known in self.outputs if known.name != output.name), output]
        elif entry.kind == "param":
            self.params.update(entry.body["values"])
        elif entry.kind == "tag":
            self.tags.update(entry.body["values"])
        elif entry.kind == "evaluation":
            self.evaluation = entry.body
        elif entry.kind == "failure":
            self.failure = entry.body
        elif entry.kind == "checkpoint":
            self.checkpoints.append(entry.body)
        elif entry.kind == "metric":
            self.metrics = True


def finished(workspace: Workspace, run: RunRecord, command: Finish, findings: Findings) -> list[Draft]:
    """The events with which a run ends: for a success its versions, its gate's decision, and the end itself."""
    facts: dict[str, Any] = {"params": {**run.made.get("params", {}), **findings.params}, "tags": findings.tags}
    if findings.metrics:
        series = load(SERIES, "series", "store")(workspace.state / "series")
        series.compact(run.id)
        facts["metrics"] = {name: value for name, value in series.last(run.id).items() if math.isfinite(value)}  # JSON has no NaN
    end = {"status": command.status, "failure": command.failure, "message": command.message, **facts}
    if command.status != "succeeded":
        return [_end(run, end)]
    made = {output.name for output in findings.outputs}
    missing = [name for name in run.made["spec"].get("outputs", ()) if name not in made]
    if missing:
        said = findings.failure.get("message", "write it, or take it out of `outputs`")
        return [_end(run, end, f"it ended well, but did not write what it declared: {', '.join(missing)} ({said})")]
    if findings.failure.get("refused"):
        return [_end(run, end, f"it ended well, but its model is none: {findings.failure['message']}")]
    drafts, refs = _versions(workspace, run, findings.outputs)
    if findings.evaluation is not None:
        moved = _decided(workspace, run, findings.evaluation)
        if moved is None:
            return [_end(run, end, "production moved while the candidate was evaluated: run it again")]
        drafts += moved
    return [*drafts, _end(run, {**end, "outputs": refs})]


def _end(run: RunRecord, end: Mapping[str, Any], wrong: str = "") -> Draft:
    """The last event of a run; with `wrong`, of one whose success cannot be accepted."""
    verdict = {"status": "failed", "failure": "user_error", "message": wrong} if wrong else {}
    return Draft("run.finished", run.id, {**end, **verdict}, key=f"{run.id}/finished")


def storable(value: Any) -> Any:
    """What a worker said, as the ledger can hold it.

    JSON has no NaN and no infinity: they become text that `float` reads. UTF-8 has no half of a surrogate pair: it becomes a question mark.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {storable(name): storable(inner) for name, inner in value.items()}
    return [storable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _versions(workspace: Workspace, run: RunRecord, outputs: list[Output]) -> tuple[list[Draft], list[str]]:
    drafts, refs = [], []
    for output in outputs:
        known = workspace.records.same_content(output.name, output.digest)
        if known is not None and is_present(workspace, known):
            refs.append(known.ref)
            continue
        number = max((version.number for version in workspace.records.versions.get(output.name, [])), default=0) + 1
        at_s = workspace.clock.now()
        version = Version(output.name, number, output.kind, output.digest, output.location, run.id, at_s, output.meta)
        drafts.append(Draft("version.created", version.ref, {"version": version.to_json()}, key=f"version/{version.ref}"))
        refs.append(version.ref)
    return drafts, refs


def _decided(workspace: Workspace, run: RunRecord, evaluation: Mapping[str, Any]) -> list[Draft] | None:
    model, alias = evaluation["model"], evaluation["alias"]
    present = workspace.records.alias(model, alias)
    if (f"{model}@{present}" if present else None) != evaluation["production"]:
        return None
    candidate = workspace.records.version(evaluation["candidate"])
    known = storable(evaluation)
    signed = load(DECIDING, "signed", "decision")
    decision = signed(workspace, candidate, alias, {"by": "gate", "run": run.id, **known["decision"]}, known)
    recorded = {**known, "decision": decision, "run": run.id}
    drafts = [Draft("evaluation.recorded", model, recorded, key=f"{run.id}/evaluation")]
    if decision["promoted"] and candidate.number != present:
        moved = {"alias": alias, "version": candidate.number, "decision": decision}
        drafts.append(Draft("alias.moved", model, moved, key=f"{run.id}/alias"))
    return drafts
