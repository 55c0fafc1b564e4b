"""`bedplate doctor`.

Does not know: how a bottleneck is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import BedplateError
from bedplate.flow.diagnosing import doctor as examine
from bedplate.flow.diagnosing import doctor_trace
from bedplate.flow.workspace import open_workspace


def doctor(
    run: Annotated[str | None, typer.Argument(help="a run, or a step for its newest run")] = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="a step trace to read instead: a .parquet or .csv table")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="where the report goes", show_default="below .bedplate/doctor")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What holds a run's steps back, the most expensive first: its evidence, what its absence would gain, and what to try next.

    Writes a report (one HTML page) and a trace that chrome://tracing and Perfetto open. With --trace, reads what any trainer traced
    (columns worker, stage, microbatch, operation, start, end; optionally step and replica) and says what each worker and stage costs.

    Example: bedplate doctor train_delay-3
    """
    if trace is not None:
        told, lines = doctor_trace(trace, out)
        show(told, "\n".join(lines), as_json)
        return
    if run is None:
        fix = "name a run: `bedplate doctor RUN` (`bedplate runs` lists them), or a table: `bedplate doctor --trace FILE`"
        raise BedplateError("there is nothing to examine", fix=fix)
    with open_workspace(project) as workspace:
        found = examine(workspace, run, out)
    show(found.to_json(), "\n".join(found.lines), as_json)
