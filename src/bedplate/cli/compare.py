"""`bedplate compare`.

Does not know: where runs and points are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.atomic import write_bytes
from bedplate.core.errors import BedplateError
from bedplate.flow.comparing import Comparison, compare
from bedplate.flow.workspace import open_workspace
from bedplate.models.tracking.page import Axis, page, shown

BARS = "▁▂▃▄▅▆▇█"
SPARKS = 24


def compare_runs(
    runs: Annotated[list[str], typer.Argument(help="runs: an id or its beginning, a name, or a job for its newest run")],
    project: ProjectFolder = Path(),
    html: Annotated[Path | None, typer.Option(help="write one page with plots to this file")] = None,
    as_json: AsJson = False,
) -> None:
    """Runs side by side: parameters and metrics, a star where they differ, and how each metric went.

    Example: bedplate compare train_delay-1 train_delay-2 --html compared.html
    """
    if len(runs) < 2:
        raise BedplateError("a comparison takes two runs or more", value=runs[0], fix="name another run; `bedplate runs` lists them")
    with open_workspace(project) as workspace:
        found = compare(workspace, runs)
        if html is not None:
            axes = [Axis(line.name, line.values) for line in found.lines]
            text = page(f"{workspace.project.name}: {len(found.runs)} runs", [run.id for run in found.runs], axes, found.curves)
            write_bytes(html, text.encode())
        show(_json(found), _text(found) + (f"\nwrote {html}" if html is not None else ""), as_json)


def _json(found: Comparison) -> dict[str, object]:
    return {
        "runs": [{"id": run.id, "name": run.name, "experiment": run.experiment, "status": run.status} for run in found.runs],
        "lines": [{"kind": line.kind, "name": line.name, "values": line.values, "differs": line.differs} for line in found.lines],
        "curves": found.curves,
    }


def _text(found: Comparison) -> str:
    rows: list[tuple[str, ...]] = [("status", "", *(run.status.lower() for run in found.runs))]
    rows += [("*" * line.differs + line.name, line.kind, *map(shown, line.values)) for line in found.lines]
    rows += [
        (name, "curve", *(sparkline([value for _, value in curve]) for curve in curves))
        for name, curves in found.curves.items()
        if any(len(curve) > 1 for curve in curves)
    ]
    return table(("", "", *(run.id for run in found.runs)), rows)


def sparkline(values: Sequence[float]) -> str:
    """A line of bars, at most 24, from the lowest value to the highest; a value that is no finite number is a space."""
    every = max(1, -(-len(values) // SPARKS))
    kept = values[::every]
    finite = [value for value in kept if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    return "".join(
        " " if not math.isfinite(value) else BARS[round((value - low) / (high - low) * (len(BARS) - 1)) if high > low else 3]
        for value in kept
    )
