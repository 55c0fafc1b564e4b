"""`bedplate logs`.

Does not know: where an engine keeps logs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import NotFound
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
        record = workspace.records.run(run)
        run_id, workers = record.id, int(record.made["placement"]["world_size"])
        if rank is not None and not 0 <= rank < workers:
            raise NotFound(f"{run_id} has no such worker", value=rank, fix=f"its ranks are 0 to {workers - 1}")
        if as_json:
            show([{"file": name, "line": line} for name, line in _lines(workspace, run_id, rank, {}, whole=False)], "", as_json=True)
            return
        offsets: dict[Path, int] = {}
        while True:
            ended = workspace.refresh().runs[run_id].ended
            for name, line in _lines(workspace, run_id, rank, offsets, whole=follow and not ended):
                typer.echo(f"{name}: {line}")
            if ended or not follow:
                if not any(offsets.values()):
                    typer.echo(f"{run_id} has printed nothing", err=True)
                return
            time.sleep(0.2)


def _lines(workspace: Workspace, run: str, rank: int | None, offsets: dict[Path, int], whole: bool) -> list[tuple[str, str]]:
    """What came since `offsets`, which move on, as (attempt/worker, line); with `whole` a line that has no end yet is left for later."""
    pattern = f"*/logs/rank-{rank}.log" if rank is not None else "*/logs/*.log"
    found = []
    files = (workspace.state / "runs" / run).glob(pattern)
    for path in sorted(files, key=lambda file: (int(file.parent.parent.name), file.name)):
        with path.open("rb") as file:
            file.seek(offsets.get(path, 0))
            data = file.read()
        taken = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1] if whole else data  # a bar is drawn with \r
        offsets[path] = offsets.get(path, 0) + len(taken)
        name = f"{path.parent.parent.name}/{path.stem}"
        found += [(name, line) for line in taken.decode(errors="replace").splitlines()]
    return found
