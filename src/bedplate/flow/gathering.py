"""Gathering what evidence of a model version is written from: the ledger's records, the version's files, the tables it came from.

The same ledger gives the same facts.
Does not know: what is written of them (`models.evidence`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.errors import BedplateError, NotFound
from bedplate.core.package import ENVIRONMENT_FILE, MANIFEST_FILE, SIGNATURE_FILE, open_package
from bedplate.core.record import AliasMove, Records, RunRecord
from bedplate.core.versions import Version
from bedplate.data.lake import Lake
from bedplate.flow.facts import location_of
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import Workspace
from bedplate.hardware.catalog.reader import matching
from bedplate.models.evidence.facts import Column, Facts, Sheet, Spent

CORE_W = 10.0  # of a busy core of a server: design power over cores of current server processors is 3 to 15 W


def gather(workspace: Workspace, ref: str) -> Facts:
    """The facts of the model version `ref`. Raises NotFound, and CheckpointError when its files are not what the ledger says."""
    records = workspace.records
    version = records.version(ref)
    if version.kind != "model":
        raise BedplateError("evidence is of models", value=f"{version.ref} is a {version.kind}", fix="name a model version, as delay@7")
    folder = location_of(workspace, version)
    manifest = open_package(folder, version.digest)
    versions, runs = came_from(records, version)
    evaluation = _evaluation(workspace, version)
    judged = records.runs.get(str(evaluation.get("run", "")))
    all_runs = (*([judged] if judged is not None and judged not in runs else []), *runs)
    spec = workspace.project.spec
    imported = spec.imported.get(version.name)
    return Facts(
        project=workspace.project.name,
        ledger=workspace.ledger.id,
        version=version,
        versions=versions,
        runs=all_runs,
        manifest=(folder / MANIFEST_FILE).read_bytes(),
        signature=_json(folder / SIGNATURE_FILE),
        dependencies=_dependencies(folder, manifest),
        evaluation=evaluation,
        decisions=_decisions(records, version),
        sheets=tuple(_sheet(workspace, each) for each in versions if each.kind == "table"),
        spent=tuple(_spent(run) for run in all_runs),
        tags=dict(records.tagged.get(version.ref, {})),
        license=str(version.meta.get("license") or (imported.license if imported is not None else "") or ""),
        endpoints={
            name: endpoint.model_dump(mode="json")
            for name, endpoint in spec.endpoints.items()
            if endpoint.model.partition("@")[0] == version.name
        },
    )


def came_from(records: Records, version: Version) -> tuple[tuple[Version, ...], tuple[RunRecord, ...]]:
    """A version and all that it came from, with the runs that made them, newest first."""
    versions: dict[str, Version] = {}
    runs: dict[str, RunRecord] = {}
    waiting = [version]
    while waiting:
        each = waiting.pop()
        if each.ref in versions:
            continue
        versions[each.ref] = each
        run = records.runs.get(each.run)
        if run is not None and run.id not in runs:
            runs[run.id] = run
            for ref in run.made.get("inputs", {}).values():
                try:
                    waiting.append(records.version(ref))
                except NotFound:  # its event was erased
                    continue
    first = sorted(versions.values(), key=lambda each: (each.ref != version.ref, -each.created_at_s, each.ref))
    return tuple(first), tuple(sorted(runs.values(), key=lambda run: (-run.created_at_s, run.id)))


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _dependencies(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    packages = _json(folder / ENVIRONMENT_FILE).get("packages") or manifest.get("libraries") or {}
    return {str(name): str(version) for name, version in packages.items() if name != "python"}


def _evaluation(workspace: Workspace, version: Version) -> Mapping[str, Any]:
    """The newest evaluation of this version; the records keep only the newest of the model."""
    told = [event.payload for event in workspace.ledger.about([version.name]) if event.kind == "evaluation.recorded"]
    return next((payload for payload in reversed(told) if payload.get("candidate") == version.ref), {})


def _decisions(records: Records, version: Version) -> tuple[tuple[str, AliasMove], ...]:
    moves = records.moves(version.name).items()
    found = [(alias, move) for alias, each in moves for move in each if move.version == version.number]
    return tuple(sorted(found, key=lambda each: (each[1].at_s, each[0])))


def _sheet(workspace: Workspace, version: Version) -> Sheet:
    declared = workspace.project.spec.datasets.get(version.name)
    lake = lake_of(workspace)
    columns: tuple[Column, ...] = ()
    unread = ""
    try:
        columns = tuple(_columns(lake, version, declared.subject if declared is not None else None))
    except NotFound as error:
        unread = f"The table is not here any more: {error.what}."
    if declared is None:
        return Sheet(version, columns, "not declared any more", columns_unread=unread)
    return Sheet(
        version,
        columns,
        declared.source,
        declared.key,
        declared.known_at or "",
        declared.backfill,
        declared.subject or "",
        declared.license or "",
        declared.residency or "",
        declared.columns,
        unread,
    )


def _columns(lake: Lake, version: Version, subject: str | None) -> Iterable[Column]:
    number = version.meta.get("table_version")
    for name in lake.dataset(version.name, number).schema.names:
        values = lake.read(version.name, number, [name]).column(name)
        yield _column(name, values, name == subject)


def _column(name: str, values: pa.ChunkedArray[Any], named: bool) -> Column:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        measured, unit = pc.utf8_length(values), " characters"
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        measured, unit = values, ""
    else:
        return Column(name, str(kind), values.null_count)
    if named and not unit:  # a number that names a person is shown as little as a name is
        return Column(name, str(kind), values.null_count, distinct=pc.count_distinct(values).as_py())
    least, most = (pc.min_max(measured)[end].as_py() for end in ("min", "max"))
    lowest, highest = ("" if value is None else f"{value}{unit}" for value in (least, most))
    return Column(name, str(kind), values.null_count, lowest, highest, pc.count_distinct(values).as_py())


def _spent(run: RunRecord) -> Spent:
    """An estimate: wall time of the attempts times the design power of the devices that the run was given."""
    seconds = sum((each.ended_at_s or each.started_at_s) - each.started_at_s for each in run.attempts)
    placement = run.made.get("placement") or {}
    devices = list(placement.get("accelerators") or ())
    hours = seconds / 3600
    if devices:
        models = (run.made.get("hardware") or {}).get("devices") or ()
        known = matching(str(models[0])) if models else None
        used = hours * len(devices)
        if known is None:
            return Spent(run.id, run.step, seconds, "unknown device", used, None, None, "A device outside the catalog has no figures.")
        how = (
            "Devices: wall time of the attempts, times the count, times the design power and the price of the catalog (`bedplate catalog`)."
        )
        return Spent(run.id, run.step, seconds, known.name, used, used * known.power_w / 1000, used * known.price_usd_per_h, how)
    resources = run.made.get("resources") or {}
    cores = float(resources.get("cpus") or 1.0) * int(placement.get("world_size") or 1)
    how = f"Processor cores: wall time of the attempts, times the cores asked for, at {CORE_W:g} W each; no price is known."
    return Spent(run.id, run.step, seconds, f"{cores:g} cores", hours * cores, hours * cores * CORE_W / 1000, None, how)
