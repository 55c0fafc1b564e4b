"""`bedplate logs`.

Does not know: where an engine keeps logs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.workspace import Workspace, open_workspace


def logs(
    run: Annotated[str, typer.Argument(help="a run, or a step for its newest run")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the run ends")] = False,
    rank: Annotated[int | None, typer.Option(help="one worker only", show_default="all")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What a run printed, all attempts in order; lines of several workers are led by their rank.

    Example: bedplate logs -f train_delay
    """
    with open_workspace(project) as workspace:
        run_id = workspace.records.run(run).id
        if as_json:
            show([{"file": name, "line": line} for name, line in _lines(workspace, run_id, rank, {})], "", as_json=True)
            return
        offsets: dict[Path, int] = {}
        while True:
            ended = workspace.refresh().runs[run_id].ended
            for name, line in _lines(workspace, run_id, rank, offsets):
                typer.echo(f"{name}: {line}")
            if ended or not follow:
                return
            time.sleep(0.2)


def _lines(workspace: Workspace, run: str, rank: int | None, offsets: dict[Path, int]) -> list[tuple[str, str]]:
    pattern = f"*/logs/rank-{rank}.log" if rank is not None else "*/logs/*.log"
    found = []
    for path in sorted((workspace.state / "runs" / run).glob(pattern)):
        with path.open("rb") as file:
            file.seek(offsets.get(path, 0))
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1] or data
        offsets[path] = offsets.get(path, 0) + len(whole)
        name = f"{path.parent.parent.name}/{path.stem}"
        found += [(name, line) for line in whole.decode(errors="replace").splitlines()]
    return found
