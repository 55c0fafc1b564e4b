"""`bedplate data drift`.

Does not know: how drift is measured or drawn.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.atomic import write_bytes
from bedplate.flow.drifting import Drift, drift
from bedplate.flow.workspace import open_workspace
from bedplate.models.drift_page import page


def data_drift(
    before: Annotated[str, typer.Argument(help="NAME@VERSION: a number, a tag, a moment, or commit:N")],
    after: Annotated[str | None, typer.Argument(help="another version of the same table", show_default="as it is now")] = None,
    html: Annotated[Path | None, typer.Option(help="write one page with plots to this file")] = None,
    limit: Annotated[float | None, typer.Option(min=0.0, help="end with 1 when the PSI of a column is above this")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """How each column of a dataset moved between two versions: PSI, KS, nulls, categories that came and went.

    Example: bedplate data drift departures@3 departures@7 --html drift.html
    """
    with open_workspace(project) as workspace:
        found = drift(workspace, before, after or before.partition("@")[0])
    if html is not None:
        write_bytes(html, page(found.before, found.after, found.rows, found.columns).encode())
    told = {**asdict(found), "columns": [each.to_json() for each in found.columns]}
    show(told, _text(found) + (f"\n\nwrote {html}" if html is not None else ""), as_json)
    return int(limit is not None and any(each.psi is not None and each.psi > limit for each in found.columns))


def _text(found: Drift) -> str:
    ranked = sorted(found.columns, key=lambda each: -(each.psi if each.psi is not None else -1.0))
    rows = [
        (it.column, it.kind, _number(it.psi), _number(it.ks), f"{it.nulls_before:.1%} -> {it.nulls_after:.1%}", it.verdict, it.told)
        for it in ranked
    ]
    since = ", the rows that came since" if found.since else ""
    title = f"{found.before} ({found.rows[0]} rows) -> {found.after} ({found.rows[1]} rows{since})"
    return f"{title}\n\n" + table(("column", "kind", "PSI", "KS", "null", "verdict", ""), rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
