"""`bedplate affected`.

Does not know: where rows and answers lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, parse_pairs, show, table
from bedplate.flow.affected import Affected, affected_by_subject, affected_where
from bedplate.flow.workspace import open_workspace

LISTED = 20


def affected(
    subject: Annotated[str | None, typer.Option(help="the person, as the datasets' `subject:` columns name them")] = None,
    where: Annotated[str | None, typer.Option(help="COLUMN=VALUE, in every table that has the column")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """The table versions, training sets, models and answers that saw a person's rows, with an answer that could be given to them.

    Example: bedplate affected --subject N14228
    """
    if (subject is None) == (where is None):
        raise typer.BadParameter("say either --subject ID or --where COLUMN=VALUE")

    def told(what: str) -> None:
        typer.echo(f"looking at {what}", err=True)

    with open_workspace(project) as workspace:
        if subject is not None:
            found = affected_by_subject(workspace, subject, told)
        else:
            [(column, value)] = parse_pairs([str(where)], "--where").items()
            found = affected_where(workspace, column, value, told)
    show(found.to_json(), _text(found), as_json)


def _text(found: Affected) -> str:
    parts = [table(("table", "column", "rows"), [(held.version, held.column, held.rows) for held in found.tables])] if found.tables else []
    if found.made:
        kinds = [(ref, kind, ", ".join(found.serving.get(ref, ()))) for ref, kind in found.made.items()]
        parts.append(table(("made of them", "kind", "alias"), kinds))
    if found.answers:
        rows = [(given.id, given.at, given.endpoint, given.model) for given in found.answers[:LISTED]]
        more = f"\nand {len(found.answers) - LISTED} more: --json has all" if len(found.answers) > LISTED else ""
        parts.append(table(("answer", "at", "endpoint", "model"), rows) + more)
    return "\n\n".join([*parts, found.letter()])
