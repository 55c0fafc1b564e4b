"""`bedplate approve`.

Does not know: how many must approve, or how an approval is recorded.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.approving import approve as give
from bedplate.flow.workspace import open_workspace


def approve(
    version: Annotated[str, typer.Argument(help="the version that waits, as NAME@NUMBER")],
    reason: Annotated[str, typer.Option(help="what you looked at; it is recorded and signed")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Approve a version that the gate left waiting (`promote.approvals`). The last approval moves the alias.

    Example: bedplate approve delay@7 --reason "the slices of the regional carriers are fine"
    """
    with open_workspace(project) as workspace:
        given = give(workspace, version, reason)
        then = f"{given.alias} is {given.version} now\n\nnext: bedplate up" if given.moved else f"{given.missing} must approve"
        show({**asdict(given), "moved": given.moved}, f"{given.version} was approved by {', '.join(given.people)}; {then}", as_json)
