"""`bedplate data add`.

Does not know: how trees are stored.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.counting import counted
from bedplate.data.trees.adding import Added, add
from bedplate.data.trees.chunked import Kept, add_chunked
from bedplate.data.trees.repository import Repository


def data_add(
    paths: Annotated[list[Path], typer.Argument(help="files or folders of the project")],
    chunked: Annotated[bool, typer.Option("--chunked", help="for large files that change a little: store new chunks only")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Keep files and folders beside the project's code, as DVC does: a small .dvc file for git, the bytes in .dvc/cache.

    Files become read-only links into the cache where the file system cannot share blocks; `cache.type` in .dvc/config says otherwise.

    Example: bedplate data add images
    """
    repository = Repository.open(project, make=True)
    targets = [repository.relative(path if path.is_absolute() else project / path) for path in paths]
    if chunked:
        with counted("hashed") as progress:
            kept = [add_chunked(repository, target, progress) for target in targets]
        show({"added": [asdict(each) for each in kept]}, "\n".join(map(_chunked_line, kept)), as_json)
        return
    with counted("hashed") as progress:
        added = [add(repository, target, progress) for target in targets]
    show({"added": [asdict(each) for each in added]}, "\n".join(map(_line, added)), as_json)


def _line(added: Added) -> str:
    count = f"{added.tracked.nfiles} files, " if added.tracked.nfiles is not None else ""
    did = f"{added.stored} new in the cache" if added.changed or added.stored else "unchanged"
    lost = f"; {len(added.lost)} earlier contents were overwritten in place and are lost" if added.lost else ""
    return f"{added.path}: {count}{added.tracked.size_bytes:,} bytes, {did}{lost}"


def _chunked_line(kept: Kept) -> str:
    size = kept.pointer.size_bytes
    share = 100 * (1 - kept.new_bytes / size) if size else 100.0
    return (
        f"{kept.path}: {size:,} bytes in {kept.pointer.chunks} chunks; {kept.new_bytes:,} bytes are new, {share:.1f} % were stored already"
    )
