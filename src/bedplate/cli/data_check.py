"""`bedplate data check`.

Does not know: how an expectation is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.errors import NotFound, nearest
from bedplate.core.versions import Version
from bedplate.data.expectations import Checked, check
from bedplate.data.lake import Lake
from bedplate.flow.data_versions import named
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import Workspace, open_workspace


def data_check(
    which: Annotated[str, typer.Argument(help="a dataset, or a version of it: NAME, NAME@7, NAME@TAG")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """Whether a dataset keeps its expectations: the newest rows, accepted or not, or those of a version. Ends with 1 when it must stop.

    Example: bedplate data check departures
    """
    with open_workspace(project) as workspace:
        name = which.partition("@")[0]
        datasets = workspace.project.spec.datasets
        if name not in datasets:
            raise NotFound("the project declares no such dataset", value=name, fix=nearest(name, datasets))
        if not datasets[name].expect:
            raise NotFound("nothing is expected of the dataset", value=name, fix=f"declare datasets.{name}.expect")
        lake = lake_of(workspace)
        commit, version = _rows_of(workspace, lake, which)
        results = check(lake, name, commit, datasets[name], workspace.clock.now())
        recorded = version.meta.get("expectations", []) if version is not None else []
        shown = {
            "dataset": name,
            "version": version.ref if version is not None else None,
            "table_version": commit,
            "expectations": [asdict(each) for each in results],
            "recorded": recorded,
        }
        show(shown, _text(shown["version"] or f"{name}: rows that no version has", results, recorded), as_json)
        return int(any(each.otherwise == "stop" and not each.held for each in results))


def _rows_of(workspace: Workspace, lake: Lake, which: str) -> tuple[int, Version | None]:
    """The commit of the table, and the version that has its rows; the newest commit for a bare name, though no version was accepted."""
    if "@" in which:
        found = named(workspace, which)
        return found.commit, found.version
    handle = lake.table(which)
    if handle is None:
        raise NotFound("the dataset was never ingested", value=which, fix=f"bedplate run {which}")
    made = reversed(workspace.records.versions.get(which, []))
    return handle.version, next((version for version in made if version.meta.get("table_version") == handle.version), None)


def _text(title: object, results: tuple[Checked, ...], recorded: list[Mapping[str, object]]) -> str:
    accepted = {each["name"]: "held" if each["held"] else "broken" for each in recorded}
    rows = [(each.name, each.otherwise, "held" if each.held else "BROKEN", accepted.get(each.name, "-"), each.found) for each in results]
    lines = [f"{title}\n", table(("expectation", "otherwise", "now", "when accepted", "found"), rows)]
    for each in results:
        if each.samples:
            lines += [f"\nrows that break: {each.name}", table(list(each.samples[0]), [list(sample.values()) for sample in each.samples])]
    return "\n".join(lines)
