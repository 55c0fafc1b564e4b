"""Facts: what the planner must know of the world, read once and handed to the pure passes.

Reading changes nothing. Digests of source files are remembered by (size, modification time, inode), so an unchanged file is read once.
Does not know: what follows from a fact (`stale`, `cluster.place`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Identity, is_alive
from bedplate.core.digest import digest, digest_file, digest_files
from bedplate.core.errors import DataError, NotFound, nearest
from bedplate.core.loading import Entry, load
from bedplate.core.plan import Step
from bedplate.core.pool import Inventory, Pool
from bedplate.core.project import find_pools
from bedplate.core.protocols import Stream
from bedplate.core.record import Records, RunRecord
from bedplate.core.spec import KAFKA, Dataset, Policies
from bedplate.core.versions import Version
from bedplate.data.pattern import is_pattern, matching
from bedplate.data.streams.log import Log
from bedplate.flow.closure import Closure, closure
from bedplate.flow.intervals import rates_of
from bedplate.flow.streams import stream_of
from bedplate.flow.tables import POLICY
from bedplate.flow.workspace import Workspace
from bedplate.hardware.inventory import inventory
from bedplate.train.checkpoints.interval import Rates

FOLDER = "dir://"
_OBJECTS = {"position": Entry("bedplate.data.objects:position", "what lies in an object store")}


@dataclass(frozen=True)
class Facts:
    """What is known now.

    `code` is by step and `sources` by source; `made` maps a step to its runs that succeeded, newest first; `serving` maps an endpoint
    to its live run; `active` maps a step and a fingerprint to the run that is under way; `aliased` maps a model to the version that its
    alias points to; `pinned` maps a step to what the present launch made of it; `rates` are the failures and stalls that are known, for
    each step that chooses its checkpoint interval by them. `ruled`: pools or policies are declared, so that a step's place is a decision.
    `held` maps the ingest step of a table that was rolled back to the version that it is held at, and why.
    """

    code: Mapping[str, Closure]
    sources: Mapping[str, str]
    made: Mapping[str, tuple[Made, ...]]
    serving: Mapping[str, RunRecord]
    active: Mapping[tuple[str, str], str]
    accepted: Mapping[str, str]
    pools: tuple[Pool, ...]
    aliased: Mapping[str, Version] = field(default_factory=dict)
    pinned: Mapping[str, Made] = field(default_factory=dict)
    rates: Mapping[str, Rates] = field(default_factory=dict)
    ruled: bool = False
    held: Mapping[str, tuple[Made, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A run that succeeded, the versions that it made by name, and whether they are all still there."""

    run: RunRecord
    outputs: Mapping[str, Version]
    present: bool


def gather(workspace: Workspace, steps: Iterable[Step], at: str = "") -> Facts:
    """The facts for these steps, tables as the snapshot `at` pins them, if one is named.

    Raises SpecError for missing code, DataError for a missing source, and NotFound for a snapshot that is not there or of which a table is
    gone.
    """
    records = workspace.records
    steps = tuple(steps)
    with_code = [step for step in steps if step.entries or step.globs]
    machine = inventory([workspace.project.root])
    return Facts(
        code={step.name: closure(workspace.project.root, step.entries, step.globs) for step in with_code},
        sources={source: _position(workspace, step, source) for step in steps for source in step.sources},
        made={step.name: tuple(_made(workspace, records, step.name)) for step in steps},
        serving={step.name: run for step in steps if step.kind == "endpoint" for run in serving(workspace, step.name)},
        active={(run.step, run.fingerprint): run.id for run in records.live() if run.status != "ready" or not run_is_alive(run)},
        accepted=records.accepted,
        pools=_pools(workspace, machine),
        ruled=is_ruled(workspace),
        aliased=dict(_aliased(records, steps)),
        rates=dict(_rates(workspace, steps)),
        held={**dict(_held(workspace, steps)), **dict(_at(workspace, steps, at))},
    )


def is_ruled(workspace: Workspace) -> bool:
    """Whether there is anything to decide about places: a `pools.yaml`, or policies."""
    declared = find_pools(workspace.project.root, workspace.settings.home) is not None
    return declared or workspace.project.spec.policies != Policies()


def _pools(workspace: Workspace, machine: Inventory) -> tuple[Pool, ...]:
    """This machine, and what is declared besides."""
    if not is_ruled(workspace):
        return (Pool("local", "local", (machine,)),)
    pools: tuple[Pool, ...] = load(POLICY, "pools", "pass")(workspace, machine)
    return pools


def _rates(workspace: Workspace, steps: Iterable[Step]) -> Iterable[tuple[str, Rates]]:
    for step in steps:
        job = workspace.project.spec.jobs.get(step.name)
        if job is not None and job.checkpoint.every == "auto":
            yield step.name, rates_of(workspace.records, step.name, workspace.clock.now())


def _held(workspace: Workspace, steps: Iterable[Step]) -> Iterable[tuple[str, tuple[Made, str]]]:
    records = workspace.records
    for step in steps:
        rolled = records.held(step.name) if step.kind in ("ingest", "transform") else None
        if rolled is not None:
            version = records.version(f"{step.name}@{rolled['version']}")
            made = Made(records.run(version.run), {step.name: version}, is_present(workspace, version))
            yield step.name, (made, f"held at {version.ref} by {rolled['by']}: {rolled['reason']}")


def _at(workspace: Workspace, steps: Iterable[Step], at: str) -> Iterable[tuple[str, tuple[Made, str]]]:
    records = workspace.records
    for name in pinned_by(records, steps, at):
        version = records.version(records.snapshots[at]["pinned"][name]["version"])
        if not is_present(workspace, version):
            raise NotFound("a table of the snapshot is gone", value=f"{at}: {version.ref}", fix="name a later snapshot, or none")
        yield name, (Made(records.run(version.run), {name: version}, True), f"{version.ref} is pinned by the snapshot {at}")


def pinned_by(records: Records, steps: Iterable[Step], at: str) -> list[str]:
    """The steps whose tables a snapshot pins; none without one. Raises NotFound for a snapshot that is not there."""
    if not at:
        return []
    if at not in records.snapshots:
        raise NotFound("no such snapshot", value=at, fix=nearest(at, records.snapshots))
    return [step.name for step in steps if step.kind in ("ingest", "transform") and step.name in records.snapshots[at]["pinned"]]


def _aliased(records: Records, steps: Iterable[Step]) -> Iterable[tuple[str, Version]]:
    for step in steps:
        if step.kind == "gate":
            number = records.alias(step.name, step.spec["promote"]["to"])
            if number is not None:
                yield step.name, records.version(f"{step.name}@{number}")


def _made(workspace: Workspace, records: Records, step: str) -> Iterable[Made]:
    for run in reversed(records.of_step(step, "succeeded")):
        outputs = {ref.rpartition("@")[0]: records.version(ref) for ref in run.outputs}
        yield Made(run, outputs, all(is_present(workspace, version) for version in outputs.values()))


def is_present(workspace: Workspace, version: Version) -> bool:
    """Whether a version's bytes are there. A declared file is the user's to overwrite, so it must still have that content."""
    if version.ref in workspace.records.removed:
        return False
    if version.kind == "table" and version.meta.get("lake", "") != workspace.lake_uri:
        return False  # it was made in another lake
    if version.kind == "table" and workspace.lake_uri:
        return True  # to ask a bucket for every version would take longer than to plan; a step that finds no table says so
    place = location_of(workspace, version)
    if version.kind != "file":
        return place.exists()
    return place.is_file() and remembered_digest(place, workspace.state / "digests.json") == version.digest


def location_of(workspace: Workspace, version: Version) -> Path:
    """Where a version's bytes lie: declared files below the project, all else below the state folder."""
    return (workspace.project.root if version.kind == "file" else workspace.state) / version.location


def serving(workspace: Workspace, endpoint: str) -> list[RunRecord]:
    """The live, ready runs of an endpoint on this machine, newest last; one whose version was taken back does not count."""
    ready = [run for run in workspace.records.of_step(endpoint) if run.status == "ready" and run_is_alive(run)]
    return [run for run in ready if run.rollout is None or run.rollout["outcome"] != "back"]


def run_is_alive(run: RunRecord) -> bool:
    """Whether the shim of the run's newest attempt still runs here."""
    if run.ended or not run.attempts or "boot_id" not in run.attempts[-1].handle:
        return False
    handle = run.attempts[-1].handle
    return is_alive(Identity(handle["boot_id"], handle["pid"], handle["start_ticks"], handle["token"]))


def _position(workspace: Workspace, step: Step, source: str) -> str:
    if source.startswith(KAFKA):
        return _read_to(stream_of(Dataset.model_validate(step.spec["dataset"]), workspace.state))
    return source_position(workspace, source)


def _read_to(stream: Stream) -> str:
    return digest([stream.identity, sorted(stream.end_offsets().items())])


def source_position(workspace: Workspace, source: str) -> str:
    """What stands for the content of a source: an embedded stream's identity and end offsets, the listing of objects, a file's digest.

    Raises NotFound for a stream that does not exist, DataError for a missing file and Unavailable for a store that does not answer.
    """
    if source.startswith("log://"):
        folder = workspace.state / "log" / source.removeprefix("log://")
        if not folder.is_dir():
            raise NotFound(
                "the stream has no records yet", value=source, fix="declare the job that writes it with `outputs:`, or append to it first"
            )
        return _read_to(Log(folder, workspace.clock))
    if source.startswith(("s3://", "gs://")):
        return str(load(_OBJECTS, "position", "source")(source))
    if source.startswith(FOLDER):
        return _folder_digest(workspace, source.removeprefix(FOLDER))
    path = workspace.project.root / source
    if not path.is_file() and is_pattern(path):
        return _pattern_digest(path, source, workspace.state / "digests.json")
    if not path.is_file():
        raise DataError("the source file is missing", value=source, fix=f"put it in {workspace.project.root}, or correct `source:`")
    return remembered_digest(path, workspace.state / "digests.json")


def remembered_digest(path: Path, memory: Path) -> str:
    """BLAKE3 of a file, from `memory` when size, modification time and inode are those remembered."""
    return _remembered(path, _stamp(path), memory, lambda: digest_file(path))


def _pattern_digest(pattern: Path, source: str, memory: Path) -> str:
    """What stands for the files of a pattern: their names and contents. Raises DataError when there are none."""
    base, names = matching(pattern)
    if not names:
        raise DataError("no file matches the source", value=source, fix="put files there, or correct `source:`")
    stamps = digest([[name, *_stamp(base / name)] for name in names])
    return _remembered(pattern, stamps, memory, lambda: digest_files(base, names))


def _folder_digest(workspace: Workspace, name: str) -> str:
    """What stands for the files of a folder, one of the project's or any other. Raises DataError for none."""
    folder = workspace.project.root / name
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if not names:
        raise DataError("the folder of the model is missing or empty", value=str(folder), fix="correct `from:`")
    stamps = digest([[each, *_stamp(folder / each)] for each in names])
    return _remembered(folder, stamps, workspace.state / "digests.json", lambda: digest_files(folder, names))


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _remembered(path: Path, stamp: object, memory: Path, compute: Callable[[], str]) -> str:
    known: dict[str, Any] = json.loads(memory.read_text()) if memory.exists() else {}
    entry = known.get(os.fspath(path))
    if entry is not None and entry["stamp"] == stamp:
        return str(entry["digest"])
    value = compute()
    write_json(memory, {**known, os.fspath(path): {"stamp": stamp, "digest": value}})
    return value
