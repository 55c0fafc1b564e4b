"""`bedplate features skew`.

Does not know: how answers are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.flow.skew import Skew, skew
from bedplate.flow.workspace import open_workspace


def features_skew(
    endpoint: Annotated[str, typer.Argument(help="an endpoint of the project")],
    last: Annotated[int, typer.Option(min=1, help="how many of the newest answers to compare")] = 1000,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """Compare what an endpoint served with what training would have computed. Ends with 1 when anything differs.

    Example: bedplate features skew delay-api
    """
    with open_workspace(project) as workspace:
        found = skew(workspace, endpoint, last)
    show(found.to_json(), _text(found), as_json)
    return 0 if found.equal else 1


def _text(found: Skew) -> str:
    rows = [(name, each.compared, each.equal, f"{each.max_difference:.3g}") for name, each in found.features.items()]
    lines = [table(("feature", "compared", "equal", "max difference"), rows), ""]
    for name, each in found.features.items():
        lines += [f"{name}: answer {one.answer} had {one.served!r}, training would have {one.trained!r}" for one in each.examples]
    left_out = f"; {found.left_out} left out, whose row or time is not kept" if found.left_out else ""
    verdict = "as training would have it" if found.equal else "NOT all as training would have it"
    return "\n".join([*lines, f"{found.answers} answers of {found.endpoint}: {verdict}{left_out}"])
