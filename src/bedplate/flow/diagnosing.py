"""Diagnosing: where the time of a run went (the goodput ledger), and what holds its steps back. Reads the ledger and the journals only.

Does not know: the rules (`train.doctor`) or how a diagnosis is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_bytes
from bedplate.core.errors import BedplateError
from bedplate.core.journal import Entry
from bedplate.core.record import RunRecord
from bedplate.flow.goodput import Body, Timings, entries_of, goodput, timings_of
from bedplate.flow.workspace import Workspace
from bedplate.train.doctor.measured import Measured, Profile, Reference, measured
from bedplate.train.doctor.report import finding_lines, run_page, trace_lines, trace_page
from bedplate.train.doctor.rules import Finding, diagnose
from bedplate.train.doctor.steps import work_of
from bedplate.train.doctor.timeline import chrome_trace
from bedplate.train.doctor.trace import read_trace
from bedplate.train.doctor.what_if import what_if
from bedplate.train.goodput import Goodput, in_words, rows_of
from bedplate.train.mesh import Mesh

COMPARED_RUNS = 5
REPORT, TRACE = "report.html", "trace.json"


@dataclass(frozen=True)
class Diagnosis:
    """What is said about a run: its findings (none for one without timed steps), its goodput, and the lines for people."""

    run: str
    findings: tuple[Finding, ...]
    ledger: Goodput
    measured: Measured | None
    files: tuple[Path, ...] = ()

    @property
    def lines(self) -> list[str]:
        """In words."""
        told = finding_lines(self.findings) or ["no steps were timed: only jobs with `function:` that train with `run.batches` have timers"]
        if self.measured is not None and self.measured.profile is not None:
            profile = self.measured.profile
            told.append(f"profiled: {profile.steps} steps of rank 0, which cost the run {profile.cost_s:.3g} s")
        return [*told, "", *in_words(self.ledger), *(f"written: {path}" for path in self.files)]

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as `--json` prints it."""
        findings = [finding.to_json() for finding in self.findings]
        profile = None if self.measured is None or self.measured.profile is None else vars(self.measured.profile)
        shown = {"run": self.run, "bottleneck": findings[0]["verdict"] if findings else None, "findings": findings}
        return {**shown, "goodput": self.ledger.to_json(), "profile": profile, "files": list(map(str, self.files))}


def doctor(workspace: Workspace, run_id: str, out: Path | None = None) -> Diagnosis:
    """Name what holds a run back, and write the report and the trace below `out`, by default in the project's state folder.

    Raises NotFound for a run that is not there.
    """
    run = workspace.records.run(run_id)
    ledger = goodput(workspace, run.id)
    found = _measured(workspace, run)
    if found is not None:
        found = replace(found, reference=_reference(workspace, run, found, ledger))
    findings = tuple(diagnose(found)) if found is not None else ()
    folder = out or workspace.state / "doctor" / run.id
    write_bytes(folder / REPORT, run_page(run.id, found, findings, ledger).encode())
    write_bytes(folder / TRACE, json.dumps(_trace(workspace, run)).encode())
    profiles = sorted(path for attempt in run.attempts for path in (workspace.state / attempt.folder / "profile").glob("*.trace.json"))
    return Diagnosis(run.id, findings, ledger, found, (folder / REPORT, folder / TRACE, *profiles))


def doctor_trace(path: Path, out: Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """What a step trace in a table says: as a mapping, and in words. Writes its page beside the table, or below `out`.

    Raises BedplateError for what is no step trace.
    """
    if not path.is_file():
        raise BedplateError("there is no such file", value=str(path), fix="give --trace a .parquet or .csv file")
    found = what_if(read_trace(path))
    page = (out or path.parent) / f"{path.stem}.doctor.html"
    write_bytes(page, trace_page(path.name, found).encode())
    return {**found.to_json(), "files": [str(page)]}, [*trace_lines(found), f"written: {page}"]


def _measured(workspace: Workspace, run: RunRecord) -> Measured | None:
    """The generation of ranks with the most steps."""
    best: Measured | None = None
    for attempt in run.attempts:
        entries = entries_of(workspace, run, attempt)
        for rows in _generations(timings_of(entries)):
            first, last = rows[0][0]["step"], rows[0][-1]["step"]
            checkpoints = sum(entry.kind == "checkpoint" and first < entry.body["step"] <= last for entry in entries)
            found = measured(rows, _mesh(run, len(rows)), checkpoints=checkpoints, profile=_profile(entries))
            if found is not None and (best is None or found.steps.sum() > best.steps.sum()):
                best = found
    return best


def _generations(timings: Timings) -> list[list[list[Body]]]:
    """For each generation the rows of its ranks, those with the same steps as rank 0's at the same time."""
    cut = {rank: _cut(rows) for rank, rows in timings.items()}
    found = []
    for mine in cut.get(0, []):
        begun_s, ended_s = mine[0][0], mine[-1][0]
        ranks = [[body for _, body in mine]]
        for rank in [rank for rank in cut if rank != 0]:
            over = [each for each in cut[rank] if each[-1][0] >= begun_s and each[0][0] <= ended_s]
            if over:
                longest = max(over, key=lambda each: min(each[-1][0], ended_s) - max(each[0][0], begun_s))
                ranks.append([body for _, body in longest])
        found.append(ranks)
    return found


def _cut(rows: Sequence[tuple[float, Body]]) -> list[list[tuple[float, Body]]]:
    """Rows of one generation each: one begins with a row that says `start`."""
    cut: list[list[tuple[float, Body]]] = []
    for row in rows:
        if not cut or row[1].get("start"):
            cut.append([])
        cut[-1].append(row)
    return [each for each in cut if any(body["steps"] for _, body in each)]


def _mesh(run: RunRecord, ranks: int) -> Mesh | None:
    declared = run.made.get("spec", {}).get("mesh")
    if not isinstance(declared, Mapping):
        return None
    try:
        return Mesh.of(declared, ranks)
    except BedplateError:
        return None  # the run had another number of ranks for a while


def _profile(entries: Sequence[Entry]) -> Profile | None:
    body = next((entry.body for entry in entries if entry.kind == "profile"), None)
    if body is None:
        return None
    names = ("launches", "launch_s", "kernel_s", "memory_s", "chain", "overlaps", "cost_s", "steps", "last")
    return Profile(**{name: body[name] for name in names}, top=tuple((str(name), float(seconds)) for name, seconds in body["top"]))


def _reference(workspace: Workspace, run: RunRecord, found: Measured, ledger: Goodput) -> Reference:
    """What is usual: the fastest of the newest other runs of the step with the same parameters, ranks and mesh."""
    usual = Reference(mtbf_s=ledger.wall_s / ledger.failures) if ledger.failures else Reference()
    same = [other for other in workspace.records.of_step(run.step) if other.id != run.id and _alike(other, run)]
    best_s = found.mean(found.step_s)
    for other in same[-COMPARED_RUNS:]:
        compared = _measured(workspace, other)
        if compared is None or compared.ranks != found.ranks or compared.mean(compared.step_s) >= best_s:
            continue
        best_s = compared.mean(compared.step_s)
        link_s, input_s = compared.mean(work_of(compared).link_s), compared.mean(compared.of("input").max(axis=1))
        usual = replace(usual, communication_s=link_s, input_s=input_s, source=f"in {other.id}")
    return usual


def _alike(one: RunRecord, other: RunRecord) -> bool:
    return dict(one.made.get("params", {})) == dict(other.made.get("params", {})) and (
        one.made.get("spec", {}).get("mesh") == other.made.get("spec", {}).get("mesh")
    )


def _trace(workspace: Workspace, run: RunRecord) -> dict[str, Any]:
    ranks: Timings = {}
    marks: list[tuple[float, str]] = []
    for attempt in run.attempts:
        entries = entries_of(workspace, run, attempt)
        marks += [(attempt.started_at_s, f"attempt {attempt.token} starts")]
        marks += [(entry.at_s, f"checkpoint of step {entry.body['step']}") for entry in entries if entry.kind == "checkpoint"]
        marks += [(attempt.ended_at_s, f"attempt {attempt.token} {attempt.status}")] if attempt.ended_at_s else []
        for rank, timings in timings_of(entries).items():
            rows = rows_of(timings)
            ranks.setdefault(rank, []).extend((row.end_s, body) for row, (_, body) in zip(rows, timings, strict=True))
    return chrome_trace(ranks, marks)
