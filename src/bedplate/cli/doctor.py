"""`bedplate doctor`.

Does not know: how a bottleneck is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.survey_view import survey_text
from bedplate.core.settings import read_settings
from bedplate.flow.diagnosing import doctor as examine
from bedplate.flow.diagnosing import doctor_trace
from bedplate.flow.surveying import survey
from bedplate.flow.workspace import open_workspace


def doctor(
    run: Annotated[str | None, typer.Argument(help="a run, or a step for its newest run")] = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="a step trace to read instead: a .parquet or .csv table")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="where the report goes", show_default="below .bedplate/doctor")] = None,
    burn_in: Annotated[bool, typer.Option("--burn-in", help="without a run: probe processor, memory and disk too, some seconds")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """What holds a run's steps back, the most expensive first: its evidence, what its absence would gain, and what to try next.

    Writes a report (one HTML page) and a trace that chrome://tracing and Perfetto open. With --trace, reads what any trainer traced
    (columns worker, stage, microbatch, operation, start, end; optionally step and replica) and says what each worker and stage costs.

    Without a run: what this machine has and what is wrong with it; ends with 1 then. Needs no project.

    Example: bedplate doctor train_delay-3

    Example: bedplate doctor --burn-in
    """
    if trace is not None:
        told, lines = doctor_trace(trace, out)
        show(told, "\n".join(lines), as_json)
        return 0
    if run is None:
        looked = survey(project.resolve(), read_settings().home, burn_in)
        show(looked.to_json(), survey_text(looked), as_json)
        return 1 if looked.troubles else 0
    with open_workspace(project) as workspace:
        found = examine(workspace, run, out)
    show(found.to_json(), "\n".join(found.lines), as_json)
    return 0
