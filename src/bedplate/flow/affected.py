"""Which versions and answers saw a person's rows: from the tables that hold them, down to what was made of those.

A version counts when any of the tables that it came from, at the very cut that it was made of, holds a row of the person: that is more than
those that were trained on the row itself (a split or a filter may have left it out), never less.
Does not know: how the rows are erased, or who may ask.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from bedplate.core.clock import iso
from bedplate.core.errors import BedplateError, NotFound, nearest
from bedplate.core.versions import Version
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from bedplate.flow.answers import READ_RECORDS, answers_table
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import Workspace

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Held:
    """A version of a table that holds rows of the person: how many, found by which column."""

    version: str
    column: str
    rows: int


@dataclass(frozen=True)
class Given:
    """An answer about the person: its id, when, by which endpoint and model version."""

    id: str
    at: str
    endpoint: str
    model: str


@dataclass
class Affected:
    """All that saw the rows. `made` are the versions made of them, by reference and kind; `by_models` counts such models' answers."""

    who: str
    searched: list[str] = field(default_factory=list)
    tables: list[Held] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)
    serving: dict[str, list[str]] = field(default_factory=dict)
    answers: list[Given] = field(default_factory=list)
    by_models: dict[str, int] = field(default_factory=dict)

    def models(self) -> list[str]:
        """The model versions among `made`."""
        return [ref for ref, kind in self.made.items() if kind == "model"]

    def letter(self) -> str:
        """The answer that could be given to the person, in plain words."""
        if not self.tables and not self.answers:
            return f"We looked through {', '.join(self.searched) or 'no table'} and hold no row about {self.who}."
        newest: dict[str, Held] = {held.version.rpartition("@")[0]: held for held in self.tables}
        rows = ", ".join(f"{held.rows} in {name}" for name, held in sorted(newest.items())) or "none now"
        models = [f"{ref}{' (' + ', '.join(self.serving[ref]) + ')' if ref in self.serving else ''}" for ref in self.models()]
        said = [
            f"Rows about {self.who}: {rows}.",
            f"Models made of tables with these rows: {', '.join(models) or 'none'}.",
            f"Answers given about {self.who}: {len(self.answers)}.",
        ]
        if self.by_models:
            total = sum(self.by_models.values())
            said.append(f"Answers, about anybody, by models made of tables with these rows: {total}.")
        return "\n".join(said)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        lists = {"tables": [vars(held) for held in self.tables], "answers": [vars(given) for given in self.answers]}
        return {**vars(self), **lists, "models": self.models(), "letter": self.letter()}


def affected_by_subject(workspace: Workspace, subject: str, told: Progress) -> Affected:
    """What saw the rows of the person `subject`, in all datasets that declare `subject:`. Raises BedplateError when none does."""
    declared = {name: each.subject for name, each in workspace.project.spec.datasets.items() if each.subject}
    if not declared:
        fix = "add `subject: COLUMN` to the dataset whose rows are about persons, or ask with --where COLUMN=VALUE"
        raise BedplateError("no dataset says which column names a person", value=subject, fix=fix)
    return _affected(workspace, {name: str(column) for name, column in declared.items()}, subject, f"the person {subject}", told)


def affected_where(workspace: Workspace, column: str, value: str, told: Progress) -> Affected:
    """What saw rows whose `column` is `value`, in all tables that have it. Raises NotFound when none has."""
    lake = lake_of(workspace)
    names = [name for name in workspace.project.spec.datasets if name in lake.names()]
    columns = {name: lake.dataset(name).schema.names for name in names}
    found = {name: column for name in names if column in columns[name]}
    if not found:
        known = sorted({each for every in columns.values() for each in every})
        raise NotFound("no table has such a column", value=column, fix=nearest(column, known))
    return _affected(workspace, found, value, f"{column} = {value}", told)


def _affected(workspace: Workspace, columns: Mapping[str, str], value: str, who: str, told: Progress) -> Affected:
    found = Affected(who, searched=sorted(columns))
    lake = lake_of(workspace)
    held: set[str] = set()
    for name, column in columns.items():
        for version, rows in _counted(workspace, lake, name, column, value, told):
            found.tables.append(Held(version.ref, column, rows))
            held.add(version.ref)
    told("what was made of them")
    for version in _made_of(workspace, held):
        found.made[version.ref] = version.kind
    for ref in found.models():
        aliases = [
            alias
            for alias, moves in workspace.records.moves(ref.rpartition("@")[0]).items()
            if moves[-1].version == int(ref.rpartition("@")[2])
        ]
        if aliases:
            found.serving[ref] = aliases
    for endpoint in workspace.project.spec.endpoints:
        told(f"answers of {endpoint}")
        _answers(workspace, lake, endpoint, set(columns.values()), value, found)
    return found


def _counted(workspace: Workspace, lake: Lake, name: str, column: str, value: str, told: Progress) -> Iterator[tuple[Version, int]]:
    """The cuts of a table that hold such rows; each Delta version is read once."""
    known: dict[int | None, int] = {}
    removed = workspace.records.removed  # by a vacuum: no rows are left of them, and nothing that was not removed was made of them
    for version in (each for each in workspace.records.versions.get(name, ()) if each.ref not in removed):
        number = version.meta.get("table_version")
        if number not in known:
            told(version.ref)
            known[number] = _count(lake.dataset(name, number), column, value)
        if known[number]:
            yield version, known[number]


def _count(dataset: pads.Dataset, column: str, value: str) -> int:
    kind = dataset.schema.field(column).type
    try:
        wanted = pa.scalar(value).cast(kind)
    except pa.ArrowInvalid:
        return 0  # a value that such a column cannot hold
    return int(dataset.count_rows(filter=pc.field(column) == wanted))


def _made_of(workspace: Workspace, refs: set[str]) -> list[Version]:
    """The versions made of `refs`, in however many steps, oldest first."""
    records = workspace.records
    made_by = {run.id: set(run.made.get("inputs", {}).values()) for run in records.runs.values()}
    users: dict[str, list[Version]] = {}
    for version in (each for name in records.versions for each in records.versions[name]):
        for ref in made_by.get(version.run, ()):
            users.setdefault(ref, []).append(version)
    found: dict[str, Version] = {}
    waiting = sorted(refs)
    while waiting:
        for version in users.get(waiting.pop(), ()):
            if version.ref not in found and version.ref not in refs:
                found[version.ref] = version
                waiting.append(version.ref)
    return sorted(found.values(), key=lambda version: (version.created_at_s, version.ref))


def _answers(workspace: Workspace, lake: Lake, endpoint: str, columns: set[str], value: str, found: Affected) -> None:
    """Answers whose request names the person, and how many the affected models gave."""
    models = set(found.models())
    seen: set[str] = set()
    for row in _kept(workspace, lake, answers_table(endpoint)):
        if row["id"] in seen:
            continue
        seen.add(row["id"])
        if row["model"] in models:
            found.by_models[row["model"]] = found.by_models.get(row["model"], 0) + 1
        request = row["request"]
        if value in request and any(str(json.loads(request).get(column)) == value for column in columns):
            at = row["at"] if isinstance(row["at"], str) else iso(row["at"].timestamp())
            found.answers.append(Given(row["id"], at, endpoint, row["model"]))


def _kept(workspace: Workspace, lake: Lake, name: str) -> Iterator[Mapping[str, Any]]:
    """The answers of an endpoint, in its table and in the stream that leads there."""
    if name in lake.names():
        for batch in lake.dataset(name).to_batches(columns=["id", "at", "model", "request"]):
            yield from batch.to_pylist()
    folder = workspace.state / "log" / name
    if not folder.is_dir():
        return
    log = Log(folder, workspace.clock)
    for partition, end in log.end_offsets().items():
        for start in range(0, end, READ_RECORDS):
            for record in log.read(partition, start, READ_RECORDS):
                yield json.loads(record.value)
