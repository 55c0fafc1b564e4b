"""`bedplate data get`.

Does not know: what a remote is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.counting import counted
from bedplate.data.trees.chunked import SUFFIX, write_out
from bedplate.data.trees.moving import copy_out, fetch
from bedplate.data.trees.repository import Repository


def data_get(
    path: Annotated[Path, typer.Argument(help="a tracked file or folder")],
    out: Annotated[Path, typer.Option("--out", "-o", help="where to write it: a path that is not there yet")],
    remote: Annotated[str, typer.Option("--remote", "-r", help="a remote of .dvc/config; its default one without this")] = "",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a tracked file or folder somewhere else, as files that may be changed.

    Example: bedplate data get images --out /tmp/images
    """
    repository = Repository.open(project)
    target = repository.relative(path if path.is_absolute() else project / path)
    if (repository.root / f"{target}{SUFFIX}").exists():
        write_out(repository, target, out)
        show({"path": str(out), "files": 1}, f"{out}: 1 file", as_json)
        return
    with counted("pulled") as progress:
        fetch(repository, [target], remote, progress)
        files = copy_out(repository, target, out)
    show({"path": str(out), "files": files}, f"{out}: {files} files", as_json)
