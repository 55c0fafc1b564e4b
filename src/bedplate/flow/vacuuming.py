"""Vacuum: the versions of tables that their declared retention gives up, and the deletion of the files that only those had.

A version is never given up while something holds on to it: the table is at it, a tag or a snapshot names it, a run that has not ended
reads it, or a model that was not removed was made of it, in however many steps. Each version that goes is an event, appended only onto the
state of the ledger in which nothing held it; then the files are deleted that no kept version, nor the newest commit, lists. What a kill
left is deleted by the next vacuum.
Does not know: the table format, or files that no table lists.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass

from bedplate.core.errors import NotFound, nearest
from bedplate.core.event import Draft
from bedplate.core.record import Records
from bedplate.core.versions import Version
from bedplate.data.lake import Table
from bedplate.flow.data_versions import history, present
from bedplate.flow.lakes import lake_of
from bedplate.flow.moving import append_decided
from bedplate.flow.workspace import Workspace


@dataclass(frozen=True)
class Expiry:
    """What retention says of one table: the versions that go, those beyond it that something holds (and what), and the files that go."""

    table: str
    going: tuple[str, ...]
    held: Mapping[str, tuple[str, ...]]
    files: int
    size_bytes: int


def expiring(workspace: Workspace, table: str | None = None) -> list[Expiry]:
    """What a vacuum of one dataset's table, or of all that declare a retention, would do now. Raises NotFound for what declares none."""
    return [_expiry(workspace, name) for name in _declared(workspace, table)]


def vacuum(workspace: Workspace, table: str | None = None) -> list[Expiry]:
    """Give those versions up, and delete what only they had. Raises NotFound as `expiring` does."""
    done = []
    for name in _declared(workspace, table):
        found = _expiry(workspace, name)
        gone = tuple(ref for ref in found.going if _give_up(workspace, name, ref))
        handle = _handle(workspace, name)
        files = {} if handle is None else handle.superseded(_kept(workspace, name))
        if handle is not None:
            handle.discard(files)
        done.append(Expiry(name, gone, found.held, len(files), sum(files.values())))
    return done


def holders(workspace: Workspace) -> dict[str, list[str]]:
    """What holds on to each version of a table, by reference."""
    records = workspace.records
    found: dict[str, list[str]] = {}
    for name in workspace.project.spec.datasets:
        if records.versions.get(name):
            found.setdefault(present(workspace, name).ref, []).append("what the table is now")
    for tagged, said in records.pointed.items():
        table, _, tag = tagged.partition("@")
        found.setdefault(f"{table}@{said['version']}", []).append(f"tag {tag}")
    for name, snapshot in records.snapshots.items():
        for pin in snapshot["pinned"].values():
            found.setdefault(pin["version"], []).append(f"snapshot {name}")
    for run in records.live():
        for ref in run.made.get("inputs", {}).values():
            found.setdefault(ref, []).append(f"run {run.id}")
    for versions in records.versions.values():
        for version in versions:
            if version.kind == "model" and version.ref not in records.removed:
                for ref in _ancestors(records, version):
                    found.setdefault(ref, []).append(f"model {version.ref}")
    return found


def _ancestors(records: Records, version: Version) -> set[str]:
    """The references of all that a version was made of."""
    found: set[str] = set()
    waiting = [version.run]
    while waiting:
        run = records.runs.get(waiting.pop())
        for ref in run.made.get("inputs", {}).values() if run is not None else ():
            if ref not in found:
                found.add(ref)
                waiting.append(records.version(ref).run)
    return found


def _declared(workspace: Workspace, table: str | None) -> list[str]:
    declared = [name for name, dataset in workspace.project.spec.datasets.items() if dataset.retention is not None]
    if table is None:
        return declared
    if table not in declared:
        fix = f"add `retention: {{versions: 30, age: 90d}}` to datasets.{table}"
        fix = fix if table in workspace.project.spec.datasets else nearest(table, workspace.project.spec.datasets)
        raise NotFound("no dataset of that name declares a retention", value=table, fix=fix)
    return [table]


def _expiry(workspace: Workspace, name: str) -> Expiry:
    holding = holders(workspace)
    beyond = _beyond(workspace, name)
    going = tuple(ref for ref in beyond if ref not in holding)
    handle = _handle(workspace, name)
    files = {} if handle is None else handle.superseded(_kept(workspace, name, going))
    held = {ref: tuple(holding[ref]) for ref in beyond if ref in holding}
    return Expiry(name, going, held, len(files), sum(files.values()))


def _beyond(workspace: Workspace, name: str) -> list[str]:
    """The versions that the declared retention does not keep, oldest first, whatever holds them."""
    retention = workspace.project.spec.datasets[name].retention
    assert retention is not None
    there = [each for each in workspace.records.versions.get(name, ()) if each.ref not in workspace.records.removed]
    recent = there[-retention.versions :] if retention.versions is not None else []
    until_s = _until(workspace, name)
    oldest_s = workspace.clock.now() - (retention.age_s or 0.0)
    young = [each for each in there if retention.age_s is not None and until_s.get(each.number, each.created_at_s) >= oldest_s]
    return [each.ref for each in there if each not in recent and each not in young]


def _until(workspace: Workspace, name: str) -> dict[int, float]:
    """By number of a version, when the table was last at it (seconds since the epoch); now, for the one that it is at."""
    was = history(workspace, name)
    ends = [*(since_s for since_s, _ in was[1:]), workspace.clock.now()]
    return {version.number: end_s for (_, version), end_s in zip(was, ends, strict=False)}


def _kept(workspace: Workspace, name: str, going: tuple[str, ...] = ()) -> list[int]:
    """The commits of the versions that stay."""
    removed = workspace.records.removed
    stay = [each for each in workspace.records.versions.get(name, ()) if each.ref not in removed and each.ref not in going]
    return sorted({int(each.meta["table_version"]) for each in stay})


def _handle(workspace: Workspace, name: str) -> Table | None:
    return lake_of(workspace).table(name)


def _give_up(workspace: Workspace, name: str, ref: str) -> bool:
    """Record that a version goes, unless something took hold of it meanwhile; whether it goes."""
    version = workspace.records.version(ref)

    def removed() -> Draft:
        if ref in holders(workspace):
            raise _Held
        reason = f"retention of {name}"
        return Draft("version.removed", ref, {"by": getpass.getuser(), "reason": reason, "digest": version.digest}, key=f"removed/{ref}")

    try:
        append_decided(workspace, removed)
    except _Held:
        return False
    return True


class _Held(Exception):
    """Something took hold of a version while it was about to go."""
