"""Versions of a dataset's table as people name them, and what they decide about them: a tag, a rollback, a release.

    NAME           what the table is now: what the last ingestion made, or what a rollback holds it at
    NAME@7         version 7                           NAME@golden    the version that a tag points to
    NAME@MOMENT    what it was then, for example NAME@2026-11-01, "NAME@2 days ago"
    NAME@snapshot:monday   what a snapshot pins
    NAME@commit:5  commit 5 of the Delta table, whether a run used it or not (a quarantine has commits only)

A rollback holds a table at a version: its ingest step counts as fresh, with that version, until the table is released. The decision is
recorded first and the table follows in one commit, marked with the decision's token, so what a kill left undone is done by the same
command again, or by the release. After the release a stream is read on from the offsets of that version, so the rows behind them come
again, each once.
Does not know: how rows are compared (`data.diff`), or what follows; the next `plan` shows it.
"""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass

from bedplate.core.errors import BedplateError, Busy, NotFound, SpecError, nearest
from bedplate.core.event import Draft
from bedplate.core.moment import moment
from bedplate.core.spec import Dataset
from bedplate.core.versions import Version
from bedplate.data.ingest import source_of
from bedplate.data.lake import Table
from bedplate.data.target import Target
from bedplate.flow.facts import location_of
from bedplate.flow.lakes import lake_of
from bedplate.flow.moving import append_decided, check_reason
from bedplate.flow.streams import has_stream, stream_of
from bedplate.flow.workspace import Workspace

COMMIT, SNAPSHOT = "commit:", "snapshot:"
TAG = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_NO_TAG = {"now", "yesterday"}


@dataclass(frozen=True)
class Named:
    """A table at one commit; `version` is the version that a run recorded there, None for a commit that none used."""

    table: str
    commit: int
    version: Version | None

    @property
    def ref(self) -> str:
        """As a person names it again."""
        return self.version.ref if self.version is not None else f"{self.table}@{COMMIT}{self.commit}"


def named(workspace: Workspace, text: str) -> Named:
    """The table and commit that `text` names. Raises NotFound for what is not there, and SpecError for what is no name of a version."""
    table, _, which = text.partition("@")
    lake = lake_of(workspace)
    handle = lake.table(table) if table in lake.names() else None
    if handle is None:
        raise NotFound("no such table", value=table, fix=nearest(table, lake.names()))
    recorded = any(version.kind == "table" for version in workspace.records.versions.get(table, []))
    if which.startswith(COMMIT) or not (which or recorded):
        return _commit(handle, which)
    if which.startswith(SNAPSHOT):
        return _pinned(workspace, table, which.removeprefix(SNAPSHOT))
    version = _moment(workspace, table, which) if which and not _is_known(workspace, table, which) else _version(workspace, table, which)
    _check_there(workspace, version)
    return Named(table, int(version.meta["table_version"]), version)


def history(workspace: Workspace, table: str) -> list[tuple[float, Version]]:
    """What a dataset's table was, from when on (seconds since the epoch), oldest first: what ingestions made and rollbacks brought back."""
    records = workspace.records
    made = [
        (run.ended_at_s, records.version(ref))
        for run in records.of_step(table, "succeeded")
        for ref in run.outputs
        if run.ended_at_s is not None and ref.rpartition("@")[0] == table
    ]
    rolled = [(roll["at_s"], records.version(f"{table}@{roll['version']}")) for roll in records.rolled.get(table, []) if roll["holds"]]
    return sorted([*made, *rolled], key=lambda each: each[0])


def present(workspace: Workspace, table: str) -> Version:
    """What a dataset's table is now. Raises NotFound when it was never made."""
    held = workspace.records.held(table)
    if held is not None:
        return workspace.records.version(f"{table}@{held['version']}")
    was = history(workspace, table)
    return was[-1][1] if was else workspace.records.version(table)


def tag(workspace: Workspace, text: str, name: str, reason: str = "", move: bool = False) -> Version:
    """Let the tag `name` point to the version that `text` names; a tag that points elsewhere stays, unless `move` and a reason are given.

    Raises BedplateError for a name that could be taken for a number or a moment, and for a tag that would move; NotFound for a commit that
    no run used: it is no version.
    """
    if not TAG.fullmatch(name) or name in _NO_TAG:
        raise BedplateError("a tag is a word of lower-case letters, digits, '_', '.' and '-'", value=name, fix="for example golden")
    found = named(workspace, text)
    version = found.version
    if version is None:
        raise NotFound("no run made a version of that commit", value=found.ref, fix=f"bedplate data history {found.table}")

    def tagged() -> Draft:
        _check_there(workspace, version)
        known = workspace.records.pointed.get(f"{version.name}@{name}")
        if known is not None and known["version"] != version.number:
            if not move:
                what = f"the tag points to {version.name}@{known['version']} already"
                raise BedplateError(what, value=f"{version.name}@{name}", fix="take another name, or add --move --reason ...")
            check_reason(reason)
        payload = {"tag": name, "version": version.number, "by": getpass.getuser(), "reason": reason}
        return Draft("table.tagged", version.name, payload)

    append_decided(workspace, tagged)
    return version


def roll_back(workspace: Workspace, text: str, reason: str) -> tuple[Version, Version]:
    """Hold a dataset's table at the version that `text` names, or for a bare name at what it was before; returns that, and what it was.

    Raises Busy while a run ingests it, NotFound for what is no version of a dataset, and BedplateError without a reason. Done again, it
    ends what a kill left undone.
    """
    check_reason(reason)
    name = _dataset(workspace, text.partition("@")[0])
    was = present(workspace, name)
    version = named(workspace, text).version if "@" in text else _before(workspace, name, was)
    if version is None:
        raise NotFound("no run made a version of that commit", value=text, fix=f"bedplate data history {name}")
    held = workspace.records.held(name)
    if held is None or held["version"] != version.number:
        if held is None and version.ref == was.ref:
            raise BedplateError("the table is at that version already", value=version.ref, fix=f"bedplate data history {name}")

        append_decided(workspace, lambda: _rolled(workspace, version, was, reason))
    _restore(workspace, name)
    return version, was


def roll_back_to(workspace: Workspace, snapshot: str, reason: str) -> list[tuple[Version, Version]]:
    """Hold all tables that a snapshot pins at its versions, decided at once; returns each that moved, and what it was.

    Raises NotFound for no such snapshot, and as `roll_back` does. Done again, it ends what a kill left undone.
    """
    check_reason(reason)
    known = workspace.records.snapshots.get(snapshot)
    if known is None:
        raise NotFound("no such snapshot", value=snapshot, fix=nearest(snapshot, workspace.records.snapshots))
    names = [name for name, pin in known["pinned"].items() if pin["kind"] == "table" and name in workspace.project.spec.datasets]
    moving: list[tuple[Version, Version]] = []

    def rolled() -> list[Draft]:
        pairs = [(workspace.records.version(known["pinned"][name]["version"]), present(workspace, name)) for name in names]
        moving[:] = [(version, was) for version, was in pairs if version.ref != was.ref]
        return [_rolled(workspace, version, was, reason) for version, was in moving]

    append_decided(workspace, rolled)
    for name in names:
        if workspace.records.held(name) is not None:
            _restore(workspace, name)
    return moving


def _rolled(workspace: Workspace, version: Version, was: Version, reason: str) -> Draft:
    """The event of a rollback, if it may happen now."""
    _check_idle(workspace, version.name)
    _check_there(workspace, version)
    payload = {"version": version.number, "from": was.number, "token": f"rollback-{os.urandom(8).hex()}"}
    return Draft("table.rolled", version.name, {**payload, "by": getpass.getuser(), "reason": reason})


def release(workspace: Workspace, table: str, reason: str) -> Version:
    """End the rollback that holds a table: the next ingestion goes on from there. Returns the version that it was held at.

    Raises NotFound when none holds it, and BedplateError without a reason.
    """
    check_reason(reason)
    name = _dataset(workspace, table)

    def released() -> Draft:
        held = workspace.records.held(name)
        if held is None:
            raise NotFound("no rollback holds the table", value=name, fix=f"bedplate data rollback {name}@N --reason ...")
        _restore(workspace, name)
        return Draft("table.released", name, {"version": held["version"], "by": getpass.getuser(), "reason": reason})

    append_decided(workspace, released)
    return workspace.records.version(f"{name}@{workspace.records.rolled[name][-1]['version']}")


def _restore(workspace: Workspace, name: str) -> None:
    """Bring the newest commit of a table to what the rollback that holds it says; nothing when that was done."""
    held = workspace.records.held(name)
    assert held is not None
    version = workspace.records.version(f"{name}@{held['version']}")
    dataset = Dataset.model_validate(workspace.records.run(version.run).made["spec"]["dataset"])  # as the table was filled, not as of today
    table = lake_of(workspace).table(name)
    if table is None:
        raise NotFound("the table is gone", value=str(location_of(workspace, version)), fix="restore the lake from its backup")
    source = source_of(dataset, ("stream", stream_of(dataset, workspace.state).identity)) if has_stream(dataset, workspace.state) else ""
    partitions = [int(partition) for partition in version.meta["offsets"]]
    Target(table, source, dataset.topic or "file").restore(int(version.meta["table_version"]), partitions, str(held["token"]))


def _check_idle(workspace: Workspace, name: str) -> None:
    busy = [run.id for run in workspace.records.live() if run.step == name]
    if busy:
        raise Busy("a run ingests the table now", value=", ".join(busy), fix=f"let it end, or bedplate cancel {busy[0]}")


def _check_there(workspace: Workspace, version: Version) -> None:
    gone = workspace.records.removed.get(version.ref)
    if gone is not None:
        raise NotFound(f"{version.ref} was removed by {gone['by']}: {gone['reason']}", value=version.ref, fix="name another version")


def _dataset(workspace: Workspace, name: str) -> str:
    if name not in workspace.project.spec.datasets:
        raise NotFound("the project declares no such dataset", value=name, fix=nearest(name, workspace.project.spec.datasets))
    return name


def _before(workspace: Workspace, name: str, was: Version) -> Version:
    removed = workspace.records.removed
    earlier = [version for _, version in history(workspace, name) if version.number < was.number and version.ref not in removed]
    if not earlier:
        raise NotFound("there is no version to go back to", value=was.ref, fix=f"bedplate data history {name}")
    return earlier[-1]


def _is_known(workspace: Workspace, table: str, which: str) -> bool:
    """Whether `which` is a number or a tag, rather than a moment."""
    return which.isdigit() or workspace.records.alias(table, which) is not None


def _version(workspace: Workspace, table: str, which: str) -> Version:
    return workspace.records.version(f"{table}@{which}") if which else present(workspace, table)


def _moment(workspace: Workspace, table: str, which: str) -> Version:
    try:
        at_s = moment(which, workspace.clock.now())
    except SpecError as error:
        tags = [known.partition("@")[2] for known in workspace.records.pointed if known.partition("@")[0] == table]
        raise SpecError(f"no version, tag or moment of {table!r}", value=which, fix=f"{nearest(which, tags)}; or {error.fix}") from error
    was = [version for since_s, version in history(workspace, table) if since_s <= at_s]
    if not was:
        raise NotFound(f"{table!r} had no version then", value=which, fix=f"bedplate data history {table}")
    return was[-1]


def _pinned(workspace: Workspace, table: str, snapshot: str) -> Named:
    known = workspace.records.snapshots.get(snapshot)
    if known is None:
        raise NotFound("no such snapshot", value=snapshot, fix=nearest(snapshot, workspace.records.snapshots))
    pin = known["pinned"].get(table)
    if pin is None:
        raise NotFound(f"snapshot {snapshot!r} pins no version of that table", value=table, fix=nearest(table, known["pinned"]))
    return Named(table, int(pin["commit"]), workspace.records.version(pin["version"]))


def _commit(handle: Table, which: str) -> Named:
    number = which.removeprefix(COMMIT)
    if not which:
        return Named(handle.name, handle.version, None)
    if not number.isdigit() or int(number) > handle.version:
        what = f"table {handle.name!r} has no such commit"
        raise NotFound(what, value=which, fix=f"commits are {COMMIT}0 to {COMMIT}{handle.version}")
    return Named(handle.name, int(number), None)
