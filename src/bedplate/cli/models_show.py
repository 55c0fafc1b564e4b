"""`bedplate models show`.

Does not know: what a card says (`models.card`), or how it is gathered (`flow.registry`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.registry import card_of, facts_of
from bedplate.flow.workspace import open_workspace


def models_show(
    version: Annotated[str, typer.Argument(help="NAME, NAME@NUMBER or NAME@ALIAS")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """The card of one version, rendered from the ledger; as JSON also its files with their digests, its signature and its aliases.

    Example: bedplate models show delay@7
    """
    with open_workspace(project) as workspace:
        found = workspace.records.version(version)
        show(facts_of(workspace, found), card_of(workspace, found), as_json)
