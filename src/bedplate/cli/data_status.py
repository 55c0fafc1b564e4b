"""`bedplate data status`.

Does not know: how a change is found.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.counting import counted
from bedplate.data.trees.adding import Difference, status
from bedplate.data.trees.repository import Repository

SHOWN = 10


def data_status(
    paths: Annotated[list[Path] | None, typer.Argument(help="tracked files or folders; all of them without any")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What changed in the files and folders that `data add` keeps; only files with another size or time are read.

    Example: bedplate data status
    """
    repository = Repository.open(project)
    targets = [repository.relative(path if path.is_absolute() else project / path) for path in paths or []]
    with counted("hashed") as progress:
        found = status(repository, targets, progress)
    show({"trees": [asdict(each) for each in found]}, "\n".join(map(_text, found)) or "nothing is tracked", as_json)


def _text(found: Difference) -> str:
    lines = [f"{found.path}: {found.state}" + (f", {found.missing} objects not in the cache" if found.missing else "")]
    for word, paths in (("added", found.added), ("modified", found.modified), ("deleted", found.deleted)):
        lines += [f"  {word.ljust(8)}  {path}" for path in paths[:SHOWN]]
        if len(paths) > SHOWN:
            lines.append(f"  {word.ljust(8)}  and {len(paths) - SHOWN} more")
    return "\n".join(lines)
