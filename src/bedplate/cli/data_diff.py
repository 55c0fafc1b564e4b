"""`bedplate data diff`.

Does not know: how versions are found or compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import BedplateError
from bedplate.data.diff import SAMPLES, RowChanges, TableDiff, compare
from bedplate.flow.data_versions import SNAPSHOT, Named, named
from bedplate.flow.lakes import lake_of
from bedplate.flow.snapshots import find, moved
from bedplate.flow.workspace import Workspace, open_workspace


def data_diff(
    before: Annotated[str, typer.Argument(help="NAME@VERSION: a number, a tag, a moment, snapshot:NAME or commit:N; or snapshot:NAME")],
    after: Annotated[
        str | None, typer.Argument(help="another version of the same table, or another snapshot", show_default="as it is now")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="compare rows too, by the dataset's key")] = False,
    samples: Annotated[int, typer.Option(help="show at most so many rows of each sort")] = SAMPLES,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What differs between two versions of a table: columns, row counts, files, offsets, and with --rows the rows.

    Example: bedplate data diff "weather@2 days ago" weather@golden --rows
    """
    with open_workspace(project) as workspace:
        if before.startswith(SNAPSHOT):
            _snapshots(workspace, before, after or "", as_json)
            return
        old, new = named(workspace, before), named(workspace, after or before.partition("@")[0])
        if old.table != new.table:
            raise BedplateError("a diff is between two versions of one table", value=new.table, fix=f"name a version of {old.table}")
        lake = lake_of(workspace)
        earlier, later = lake.table(old.table, old.commit), lake.table(new.table, new.commit)
        assert earlier is not None and later is not None
        declared = workspace.project.spec.datasets.get(old.table)
        found = compare(earlier, later, declared.key if declared else (), rows, samples)
        offsets = {"before": _offsets(old), "after": _offsets(new)}
        told = {"before": old.ref, "after": new.ref, "offsets": offsets, **found.to_json()}
        show(told, "\n".join(_lines(old, new, found)), as_json)


def _snapshots(workspace: Workspace, before: str, after: str, as_json: bool) -> None:
    if not after.startswith(SNAPSHOT):
        raise BedplateError("a snapshot needs another to compare with", value=after, fix=f"bedplate data diff {before} {SNAPSHOT}NAME")
    one, two = (find(workspace, text.removeprefix(SNAPSHOT)) for text in (before, after))
    found = moved(one, two)
    lines = [f"{one.name} -> {two.name}", *(f"{each.name}  {each.before or 'none'} -> {each.after or 'none'}" for each in found)]
    told = {"before": one.name, "after": two.name, "moved": [vars(each) for each in found]}
    show(told, "\n".join(lines if found else [*lines, "the same"]), as_json)


def _offsets(which: Named) -> Mapping[str, int]:
    return which.version.meta["offsets"] if which.version is not None else {}


def _lines(old: Named, new: Named, found: TableDiff) -> Iterator[str]:
    yield f"{old.ref} -> {new.ref}"
    yield f"rows     {found.rows_before} -> {found.rows_after} ({found.rows_after - found.rows_before:+d})"
    was, now = _offsets(old), _offsets(new)
    for partition in sorted({*was, *now}, key=int):
        if was.get(partition) != now.get(partition):
            yield f"offset   partition {partition}: {was.get(partition, 0)} -> {now.get(partition, 0)}"
    for sign, files in (("+", found.files_added), ("-", found.files_removed), ("=", found.files_kept)):
        if files.count:
            yield f"files    {sign}{files.count} ({files.rows} rows, {files.size_bytes} bytes)"
    yield from (f"column   + {name}: {kind}" for name, kind in found.columns_added.items())
    yield from (f"column   - {name}: {kind}" for name, kind in found.columns_removed.items())
    yield from (f"column   ~ {name}: {kinds[0]} -> {kinds[1]}" for name, kinds in found.columns_changed.items())
    if found.changes is not None:
        yield from _rows(found.changes)
    elif found.same_files and found.same_columns:
        yield "the same"


def _rows(changes: RowChanges) -> Iterator[str]:
    yield f"compared {changes.added} added, {changes.removed} removed, {changes.changed} changed"
    yield from (f"  + {_row(row)}" for row in changes.samples["added"])
    yield from (f"  - {_row(row)}" for row in changes.samples["removed"])
    for pair in changes.samples["changed"]:
        yield f"  ~ {_row(pair['before'])}"
        yield f"    {_row(pair['after'])}"


def _row(row: Mapping[str, Any]) -> str:
    return json.dumps(row, default=str, ensure_ascii=False)
