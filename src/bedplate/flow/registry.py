"""The registry as people read it: versions of models with their aliases, tags and fate, and the card of one, from the ledger.

Does not know: how a version is made, moved or removed (`moving`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bedplate.core.clock import iso
from bedplate.core.package import EXAMPLE_FILE, SIGNATURE_FILE
from bedplate.core.versions import Version
from bedplate.flow.facts import location_of
from bedplate.flow.workspace import Workspace
from bedplate.models.card import card


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    """All versions of models, by model and number, as JSON."""
    names = sorted(workspace.records.versions)
    return [_row(workspace, each) for name in names for each in workspace.records.versions[name] if each.kind == "model"]


def facts_of(workspace: Workspace, version: Version) -> dict[str, Any]:
    """Everything that is known of one version, as JSON."""
    return {
        **_row(workspace, version),
        "digest": version.digest,
        "location": str(location_of(workspace, version)),
        "meta": dict(version.meta),
        "signature": _file(workspace, version, SIGNATURE_FILE),
        "example": _file(workspace, version, EXAMPLE_FILE),
        "decisions": _decisions(workspace, version),
    }


def card_of(workspace: Workspace, version: Version) -> str:
    """The card of one version, as Markdown. Only what was recorded is in it."""
    records = workspace.records
    run = records.runs.get(version.run)
    made: Mapping[str, Any] = run.made if run is not None else {}
    evaluation = records.evaluations.get(version.name, {})
    graded = evaluation if evaluation.get("candidate") == version.ref else {}
    facts = {
        "name": version.name,
        "number": version.number,
        "run": version.run,
        "digest": version.digest,
        "created_at": iso(version.created_at_s),
        "params": version.meta.get("params") or (run.params if run is not None else {}),
        "metrics": graded.get("metrics") or version.meta.get("metrics") or {},
        "code": made.get("code") or {},
        "environment": made.get("environment") or {},
        "hardware": made.get("hardware") or {},
        "data": [_input(workspace, name, ref) for name, ref in (made.get("inputs") or {}).items()],
        "seconds": run.duration_s if run is not None else None,
        **_origin(version),
        **_fate(workspace, version),
        **{name: graded.get(name) for name in ("production", "production_metrics", "decision", "pinned_set")},
    }
    return card(facts)


def _origin(version: Version) -> dict[str, Any]:
    """Where a model comes from that was not made here, what it was made from, and what may be done with it."""
    origin = version.meta.get("origin") or {}
    base = version.meta.get("base") or {}
    signature = {"license": version.meta.get("license"), "formats": version.meta.get("weights")}
    told = {"from": origin.get("from"), "revision": origin.get("revision"), "base": _base(base), **signature}
    left_out = [f"{each['name']} ({each['why']})" for each in version.meta.get("left_out") or ()]
    return {"origin": {name: value for name, value in {**told, "left out": left_out or None}.items() if value}}


def _base(base: Mapping[str, Any]) -> str | None:
    return f"{base['version']} ({base['digest'][:12]})" if base else None


def _fate(workspace: Workspace, version: Version) -> dict[str, Any]:
    gone = workspace.records.removed.get(version.ref)
    return {"removed": f"by {gone['by']} at {iso(gone['at_s'])}: {gone['reason']}"} if gone else {}


def _input(workspace: Workspace, name: str, ref: str) -> dict[str, Any]:
    version = workspace.records.version(ref)
    return {"name": name, "version": version.number, "rows": version.meta.get("rows"), "role": version.kind}


def _row(workspace: Workspace, version: Version) -> dict[str, Any]:
    records = workspace.records
    gone = records.removed.get(version.ref)
    origin = version.meta.get("origin") or {}
    base = version.meta.get("base") or {}
    return {
        "model": version.name,
        "version": version.ref,
        "aliases": [alias for alias in records.moves(version.name) if records.alias(version.name, alias) == version.number],
        "from": origin.get("from") or version.run,
        "base": base.get("version"),
        "license": version.meta.get("license") or base.get("license"),
        "created_at": iso(version.created_at_s),
        "tags": dict(records.tagged.get(version.ref, {})),
        "removed": f"{gone['reason']} ({gone['by']})" if gone else None,
    }


def _decisions(workspace: Workspace, version: Version) -> list[dict[str, Any]]:
    return [
        {"alias": alias, "at": iso(move.at_s), "decision": dict(move.decision)}
        for alias, moves in workspace.records.moves(version.name).items()
        for move in moves
        if move.version == version.number
    ]


def _file(workspace: Workspace, version: Version, name: str) -> Any:
    path = location_of(workspace, version) / name
    return json.loads(path.read_bytes()) if path.is_file() else None
