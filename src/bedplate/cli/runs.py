"""`bedplate runs`.

Does not know: how metrics are stored, or how a filter is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.clock import human_duration
from bedplate.core.errors import NotFound, nearest
from bedplate.core.record import RunRecord
from bedplate.flow.comparing import reading
from bedplate.flow.explaining import meshed
from bedplate.flow.workspace import Workspace, open_workspace
from bedplate.models.tracking.reading import ALL, Reading, Tracked

MOST_COLUMNS = 24


def runs(
    job: Annotated[str | None, typer.Argument(help="one job or experiment only")] = None,
    project: ProjectFolder = Path(),
    filter: Annotated[str, typer.Option(help="such as \"metrics.rmse < 1 and params.lr = '0.1'\"")] = "",
    sort: Annotated[list[str] | None, typer.Option(help='such as "metrics.rmse DESC"; may be given again')] = None,
    columns: Annotated[str, typer.Option(help="names of params, metrics and tags to show, and `mesh`, with commas between them")] = "",
    limit: Annotated[int, typer.Option(help="at most so many", min=1)] = ALL,
    as_json: AsJson = False,
) -> None:
    """Experiments: runs of jobs, and those that MLflow's clients logged, with parameters and last metrics, newest last.

    Example: bedplate runs train_delay --filter "metrics.rmse < 20" --sort metrics.rmse
    """
    with open_workspace(project) as workspace, reading(workspace) as tracked:
        _check_known(workspace, tracked, job)
        found = tracked.find(filter, sort or (), job, limit)
        if not sort:
            found.reverse()  # the newest nearest to the prompt
        if not found:
            none = "no job has run yet; try `bedplate up`" if job is None else f"{job} has not run yet; try `bedplate up {job}`"
            none = "no run matches" if filter else none
        records = {each.id: workspace.records.runs.get(each.id) for each in found}
        text = _text(found, records, [name.strip() for name in columns.split(",") if name.strip()]) if found else none
        show([_json(each, records[each.id]) for each in found], text, as_json)


def _check_known(workspace: Workspace, tracked: Reading, job: str | None) -> None:
    spec = workspace.project.spec
    experiments = tracked.experiments()
    known = {*spec.jobs, *spec.models, *experiments, *(name.partition("/")[2] for name in experiments if "/" in name)}
    if job is not None and job not in known:
        raise NotFound("no such job", value=job, fix=nearest(job, known))


def _json(run: Tracked, record: RunRecord | None) -> dict[str, Any]:
    tracked = {"name": run.name, "experiment": run.experiment, "params": run.params, "metrics": run.metrics, "tags": run.tags}
    return {**record.to_json(), **tracked} if record is not None else {"id": run.id, "status": run.status, **tracked}


def _text(found: Sequence[Tracked], records: Mapping[str, RunRecord | None], wanted: Sequence[str]) -> str:
    params = sorted({name for run in found for name in run.params})
    metrics = sorted({name for run in found for name in run.metrics})
    chosen = [*wanted] or [*params, *metrics][:MOST_COLUMNS]
    rows = []
    for run in found:
        record = records[run.id]
        took = human_duration(run.duration_s) if run.duration_s else ""
        cells = [_mesh(record) if name == "mesh" and record is not None else _cell(run, name) for name in chosen]
        status = record.status if record is not None else run.status.lower()
        rows.append((run.id, status, took, *cells, ", ".join(record.outputs) if record is not None else ""))
    return table(("run", "status", "took", *chosen, "made"), rows)


def _mesh(record: RunRecord) -> str:
    """The axes, and whether the planner chose them."""
    return (meshed(record.made.get("spec", {})) or "").partition("; ")[0]


def _cell(run: Tracked, name: str) -> str:
    kind, _, key = name.partition(".")
    parts: Mapping[str, Mapping[str, str | float]] = {"params": run.params, "metrics": run.metrics, "tags": run.tags}
    if key in parts.get(kind, {}):
        return _shown(parts[kind][key])
    for values in parts.values():
        if name in values:
            return _shown(values[name])
    return str(getattr(run, name)) if name in ("experiment", "name") else ""


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
