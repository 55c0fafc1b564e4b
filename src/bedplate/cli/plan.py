"""`bedplate plan`.

Does not know: how a plan is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, parse_pairs, show
from bedplate.flow.planner import plan as make_plan
from bedplate.flow.workspace import open_workspace


def plan(
    targets: Annotated[list[str] | None, typer.Argument(help="datasets, features, jobs, models or endpoints; none: all")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a parameter, as NAME=VALUE")] = None,
    force: Annotated[list[str] | None, typer.Option("--force", help="a step to run though it is up to date")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What would run, where and why. Starts nothing.

    Example: bedplate plan train_delay --set lr=3e-4
    """
    with open_workspace(project, parse_pairs(overrides or [], "--set")) as workspace:
        planned = make_plan(workspace, targets or [], force or [])
        show(planned.to_json(), planned.text(), as_json)
