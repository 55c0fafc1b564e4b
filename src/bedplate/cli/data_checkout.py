"""`bedplate data checkout`.

Does not know: file formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import BedplateError
from bedplate.data.checkout import check_out
from bedplate.flow.data_versions import named
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import open_workspace


def data_checkout(
    version: Annotated[str, typer.Argument(help="NAME@VERSION: a number, a tag, a moment, snapshot:NAME or commit:N")],
    out: Annotated[Path, typer.Option(help="the file: .parquet, .csv or .arrow")],
    replace: Annotated[bool, typer.Option("--replace", help="write over a file that is there")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a version of a table to a file, in the order of its source. To let the project read it, roll back to it.

    Example: bedplate data checkout weather@golden --out weather.parquet
    """
    with open_workspace(project) as workspace:
        found = named(workspace, version)
        if out.exists() and not replace:
            raise BedplateError("the file is there already", value=str(out), fix="name another one, or add --replace")
        table = lake_of(workspace).table(found.table, found.commit)
        assert table is not None
        rows = check_out(table, out)
        show({"version": found.ref, "file": str(out), "rows": rows}, f"{found.ref}: {rows} rows in {out}", as_json)
