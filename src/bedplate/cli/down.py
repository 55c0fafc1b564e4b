"""`bedplate down`.

Does not know: how runs are stopped.
"""

from __future__ import annotations

from pathlib import Path

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.stopping import bring_down
from bedplate.flow.workspace import open_workspace


def down(project: ProjectFolder = Path(), as_json: AsJson = False) -> None:
    """Stop endpoints, live runs (after a checkpoint) and the server. Data, models and the ledger stay.

    Example: bedplate down
    """
    with open_workspace(project) as workspace:
        ended = bring_down(workspace, lambda _: None)
        show({"stopped": ended}, "\n".join(f"stopped {run}" for run in ended) or "nothing was running", as_json)
