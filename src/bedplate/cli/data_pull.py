"""`bedplate data pull`.

Does not know: what a remote is.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.counting import counted
from bedplate.data.trees.moving import check_out, fetch
from bedplate.data.trees.repository import Repository


def data_pull(
    paths: Annotated[list[Path] | None, typer.Argument(help="tracked files or folders; all of them without any")] = None,
    remote: Annotated[str, typer.Option("--remote", "-r", help="a remote of .dvc/config; its default one without this")] = "",
    force: Annotated[bool, typer.Option("--force", help="overwrite files that the cache does not have")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Let the project have the files that its .dvc files name, fetched where the cache lacks them, and verified.

    Example: bedplate data pull images
    """
    repository = Repository.open(project)
    targets = [repository.relative(path if path.is_absolute() else project / path) for path in paths or []]
    with counted("pulled") as progress:
        moved = fetch(repository, targets, remote, progress)
        written, removed = check_out(repository, targets, force, progress)
    done = replace(moved, written=written, removed=removed)
    show(asdict(done), f"{done.objects} of {done.of} objects fetched; {written} files written, {removed} removed", as_json)
