"""`bedplate evidence`.

Does not know: what evidence is made of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.evidence import Part, write_evidence
from bedplate.flow.workspace import open_workspace


def evidence(
    version: Annotated[str, typer.Argument(help="a model version, as delay@7 or delay@production")],
    out: Annotated[Path | None, typer.Option(help="the folder to make", show_default="evidence-NAME-NUMBER in the project")] = None,
    with_model: Annotated[bool, typer.Option("--with-model", help="put the model's files into it too")] = False,
    keyless: Annotated[bool, typer.Option("--keyless", help="sign with Sigstore too, as this CI job or by a browser's sign-in")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """One folder about a model version that verifies offline: bill of materials, lineage, signatures, cards, the audit log's part of it.

    Example: bedplate evidence delay@7 --out audit/delay-7
    """
    asked: dict[Part, bool] = {"model": with_model, "keyless": keyless}
    parts = [part for part, wanted in asked.items() if wanted]
    with open_workspace(project) as workspace:
        folder = write_evidence(workspace, version, out, parts)
    files = sum(1 for path in folder.rglob("*") if path.is_file())
    show({"folder": str(folder), "files": files}, f"{folder}  {files} files; `bedplate evidence verify {folder}` says what holds", as_json)
