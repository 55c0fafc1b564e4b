"""`bedplate data push`.

Does not know: what a remote is.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.counting import counted
from bedplate.data.trees.moving import push
from bedplate.data.trees.repository import Repository


def data_push(
    paths: Annotated[list[Path] | None, typer.Argument(help="tracked files or folders; all of them without any")] = None,
    remote: Annotated[str, typer.Option("--remote", "-r", help="a remote of .dvc/config; its default one without this")] = "",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Copy what a remote of .dvc/config lacks to it: a folder or S3. Called again after a kill, it goes on.

    Example: bedplate data push --remote store
    """
    repository = Repository.open(project)
    targets = [repository.relative(path if path.is_absolute() else project / path) for path in paths or []]
    with counted("pushed") as progress:
        moved = push(repository, targets, remote, progress)
    show(asdict(moved), f"{moved.objects} of {moved.of} objects pushed to {moved.remote}", as_json)
