"""Snapshots: one manifest that pins the version of every table, feature view and file of a project at one moment, under a name.

A manifest is named by the digest of what it pins, so the same state has the same digest whoever takes it. It is recorded onto the very
state of the ledger that it was read from: nobody's version can come in between, and of two who take the same name at once for different
states one wins and the other is told.
Does not know: where bytes lie, or how two versions of one table differ (`data.diff`).
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bedplate.core.digest import digest
from bedplate.core.errors import BedplateError, NotFound, nearest
from bedplate.core.event import Draft
from bedplate.core.versions import Version
from bedplate.flow.data_versions import TAG, present
from bedplate.flow.moving import append_decided
from bedplate.flow.planner import plan
from bedplate.flow.workspace import Workspace

PINNED = ("view", "file", "files", "stream")


@dataclass(frozen=True)
class Snapshot:
    """A name for a manifest. `pinned` maps each name of a version to its reference, kind and digest (and a table's commit);
    `stale` are the steps whose results were not up to date, so that nothing of theirs is pinned.
    """

    name: str
    digest: str
    pinned: Mapping[str, Mapping[str, Any]]
    stale: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The manifest as it is written to a file."""
        return {"name": self.name, "digest": self.digest, "pinned": dict(self.pinned), "stale": list(self.stale)}


@dataclass(frozen=True)
class Moved:
    """A name whose version differs between two snapshots; None where one does not pin it."""

    name: str
    before: str | None
    after: str | None


def take(workspace: Workspace, name: str, reason: str = "") -> Snapshot:
    """Pin what the project's tables, views and files are now. A name is taken once: again for the same state it changes nothing.

    Raises BedplateError for a name that pins another state already, or that is none; and NotFound where nothing was ever made.
    """
    if not TAG.fullmatch(name):
        raise BedplateError(
            "a snapshot's name is a word of lower-case letters, digits, '_', '.' and '-'", value=name, fix="for example monday"
        )

    def taken() -> Draft:
        pinned, stale = _present(workspace)
        if not pinned:
            raise NotFound("there is nothing to pin yet", value=name, fix="make something first: bedplate up")
        manifest = {"pinned": pinned, "stale": stale}
        named = digest(manifest)
        known = workspace.records.snapshots.get(name)
        if known is not None and known["digest"] != named:
            what = "the snapshot pins another state already"
            raise BedplateError(what, value=f"{name} ({known['digest'][:12]})", fix="take another name; see bedplate data diff")
        return Draft("snapshot.taken", name, {**manifest, "digest": named, "by": getpass.getuser(), "reason": reason})

    append_decided(workspace, taken)
    return find(workspace, name)


def find(workspace: Workspace, name: str) -> Snapshot:
    """A snapshot by name. Raises NotFound."""
    known = workspace.records.snapshots.get(name)
    if known is None:
        raise NotFound("no such snapshot", value=name, fix=nearest(name, workspace.records.snapshots))
    return Snapshot(name, known["digest"], known["pinned"], tuple(known["stale"]))


def moved(before: Snapshot, after: Snapshot) -> list[Moved]:
    """What two snapshots pin otherwise, by name."""
    names = sorted({*before.pinned, *after.pinned})
    pairs = [Moved(name, before.pinned.get(name, {}).get("version"), after.pinned.get(name, {}).get("version")) for name in names]
    return [pair for pair in pairs if pair.before != pair.after]


def _present(workspace: Workspace) -> tuple[dict[str, dict[str, Any]], list[str]]:
    records = workspace.records
    tables = [name for name in workspace.project.spec.datasets if records.versions.get(name)]
    found = {name: present(workspace, name) for name in tables}
    stale = []
    for planned in plan(workspace).steps:
        if planned.step.kind not in ("feature", "job"):
            continue
        if planned.made_by is None:
            stale.append(planned.step.name)
            continue
        made = [records.version(ref) for ref in records.run(planned.made_by).outputs]
        found |= {version.name: version for version in made if version.kind in PINNED}
    return {name: _pin(version) for name, version in sorted(found.items())}, stale


def _pin(version: Version) -> dict[str, Any]:
    commit = {"commit": version.meta["table_version"]} if version.kind == "table" else {}
    return {"version": version.ref, "kind": version.kind, "digest": version.digest, **commit}
