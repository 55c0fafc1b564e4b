"""`bedplate pools refresh`: prices of `pools.yaml` from the file that it names.

Does not know: what prices mean.
"""

from __future__ import annotations

from pathlib import Path

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.repricing import refresh
from bedplate.flow.workspace import open_workspace


def pools_refresh(project: ProjectFolder = Path(), as_json: AsJson = False) -> None:
    """Bring the prices of `pools.yaml` up to date from its `prices_from`, a JSON file or an https address.

    Example: bedplate pools refresh
    """
    with open_workspace(project) as workspace:
        changed = refresh(workspace)
        show(changed, "\n".join(f"{name}: {text}" for name, text in changed.items()) or "no price changed", as_json)
