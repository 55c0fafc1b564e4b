"""`bedplate audit verify`.

Does not know: how the chain is built.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.auditing import audit_artifacts, audit_project

Artifacts = Annotated[bool, typer.Option("--artifacts", help="compare the bytes of models, training sets, views and files too")]


def audit_verify(artifacts: Artifacts = False, project: ProjectFolder = Path(), as_json: AsJson = False) -> int:
    """Find a changed, dropped or reordered event of the ledger, up to the last signed head; with --artifacts, changed bytes of a version.

    Example: bedplate audit verify --artifacts
    """
    found = audit_project(project)
    text = (
        f"{found.events} events are linked; {found.signed_heads} signed heads hold, the last at event {found.signed_through}; "
        f"{found.copies} copies outside agree"
    )
    if not artifacts:
        show(asdict(found), text, as_json)
        return 0
    compared = audit_artifacts(project)
    wrong = [each for each in compared if not each.holds]
    lines = [text, *(f"WRONG  {each.version}  {each.place}: {each.why}" for each in wrong)]
    lines.append(f"{len(compared)} versions compared, {len(wrong)} are not what the ledger says")
    show({**asdict(found), "artifacts": [asdict(each) for each in compared]}, "\n".join(lines), as_json)
    return 1 if wrong else 0
