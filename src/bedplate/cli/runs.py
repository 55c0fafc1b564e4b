"""`bedplate runs`.

Does not know: how metrics are stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.clock import human_duration
from bedplate.core.errors import NotFound, nearest
from bedplate.flow.workspace import open_workspace

KINDS = ("job", "train", "gate")


def runs(
    job: Annotated[str | None, typer.Argument(help="one job only")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Experiments: the runs of jobs with their parameters and last metrics, newest last.

    Example: bedplate runs train_delay
    """
    with open_workspace(project) as workspace:
        experiments = [run for run in workspace.records.runs.values() if run.kind in KINDS]
        known = {*workspace.project.spec.jobs, *workspace.project.spec.models, *(run.step for run in experiments)}
        if job is not None and job not in known:
            raise NotFound("no such job", value=job, fix=nearest(job, known))
        found = [run for run in experiments if job in (None, run.step)]
        params = sorted({name for run in found for name in run.params})
        metrics = sorted({name for run in found for name in run.metrics})
        rows = []
        for run in found:
            numbers = [f"{run.metrics[name]:.4g}" if name in run.metrics else "" for name in metrics]
            took = human_duration(run.duration_s) if run.duration_s else ""
            rows.append((run.id, run.status, took, *(run.params.get(name, "") for name in params), *numbers, ", ".join(run.outputs)))
        none = "no job has run yet; try `bedplate up`" if job is None else f"{job} has not run yet; try `bedplate up {job}`"
        text = table(("run", "status", "took", *params, *metrics, "made"), rows) if rows else none
        show([run.to_json() for run in found], text, as_json)
