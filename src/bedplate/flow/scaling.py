"""Telling a live elastic run how many workers it should have: capacity came or went. Later attempts of the run want as many.

Does not know: how ranks come and go (`train.ranks` reads the file and acts when they meet).
"""

from __future__ import annotations

from bedplate.core.atomic import write_bytes
from bedplate.core.errors import BedplateError, NotFound
from bedplate.core.record import RunRecord
from bedplate.flow.workspace import Workspace

WORKERS_FILE = "workers"


def scale(workspace: Workspace, name: str, workers: int) -> tuple[RunRecord, tuple[int, int]]:
    """Ask the run (or newest run of the step) `name` for so many workers; returns it with the least and the most it may have.

    Raises NotFound for one that is not live, BedplateError for one that is not elastic and for a number outside its bounds.
    """
    run = workspace.refresh().run(name)
    if not run.state.live:
        raise NotFound("this run is not running", value=run.id, fix="scale a run that `bedplate ps` shows as running")
    least, most = run.made.get("spec", {}).get("workers") or (1, 1)
    if least == most:
        raise BedplateError("this run is not elastic", value=run.id, fix="declare a range: `resources: {workers: 2..8}`")
    if not least <= workers <= most:
        raise BedplateError("the job does not allow so many workers", value=workers, fix=f"choose from {least} to {most}")
    write_bytes(workspace.attempt_folder(run.id, run.state.token).parent / WORKERS_FILE, str(workers).encode())
    return run, (least, most)
