"""`bedplate run`.

Does not know: how a launch is driven or shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bedplate.cli.command import AsJson, ProjectFolder, command_line, parse_pairs
from bedplate.cli.detach import detach
from bedplate.cli.fields import taking
from bedplate.cli.launch_view import finish, follow
from bedplate.core.loading import load
from bedplate.flow.moving import trust
from bedplate.flow.planner import check_run_targets, steps_at
from bedplate.flow.profiled import with_profile
from bedplate.flow.tables import POLICY
from bedplate.flow.workspace import open_workspace, request_launch


@dataclass(frozen=True)
class Way:
    """How a launch goes: in which pool jobs run, with the tables of which snapshot, and whether anybody waits for it."""

    on: str = ""
    at: str = ""
    detach: bool = False


@taking(
    Way,
    {
        "on": "the pool of pools.yaml in which jobs run; what makes data stays where the data lies",
        "at": "a snapshot of `data snapshot`: every table that it pins is read as it was then",
        "detach": "leave it running in the background",
    },
)
def run(
    targets: Annotated[list[str], typer.Argument(help="datasets, features or jobs")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a parameter, as NAME=VALUE")] = None,
    force: Annotated[list[str] | None, typer.Option("--force", help="a step to run though it is up to date")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="run the named jobs again and profile ten steps of each")] = False,
    trusted: Annotated[list[str] | None, typer.Option("--trust", help="a file that may be part of a model, as SHA256=REASON")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
    **way: Any,
) -> int:
    """Make targets and what they need. An experiment never moves production.

    Ctrl-C writes a checkpoint and stops; the same command then goes on from there.

    Example: bedplate run train_delay --set lr=3e-4 --on lab
    """
    with open_workspace(project, parse_pairs(overrides or [], "--set")) as workspace:
        check_run_targets(workspace.project.spec, targets)
        steps_at(workspace, [*targets, *(force or [])], way["at"])
        for sha256, reason in parse_pairs(trusted or [], "--trust").items():
            trust(workspace, sha256, reason)
        if way["on"]:
            load(POLICY, "check", "pass")(workspace, way["on"])
        jobs = [target for target in targets if profile and target in workspace.project.spec.jobs]
        wanted = with_profile(workspace, jobs)
        launch = request_launch(wanted, "run", tuple(targets), (*(force or ()), *jobs), on=way["on"], at=way["at"])
        if way["detach"]:
            return detach(workspace, launch, as_json)
        ways = {f"--{name}": [way[name]] for name in ("on", "at") if way[name]}
        again = command_line("run", targets, {"--set": overrides, "--force": force, **ways})
        return finish(workspace, follow(workspace, launch, as_json), again, as_json)
