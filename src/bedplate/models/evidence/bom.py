"""The bill of materials of a model version: CycloneDX 1.6 JSON, as an ML-BOM.

The model is a `machine-learning-model` with its model card, every table it came from a `data` component, every library of its environment
a `library` with a package URL. Source: ECMA-424 (CycloneDX 1.6), https://cyclonedx.org/docs/1.6/json/.
Does not know: vulnerabilities or licenses of libraries; other tools add those by the package URLs.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from importlib.metadata import version as installed
from typing import Any

from bedplate.core.clock import iso
from bedplate.core.versions import Version
from bedplate.models.evidence.facts import Facts, Sheet, number

_HASHES = {"sha256": "SHA-256", "blake3": "BLAKE3"}
_DATA_KINDS = ("table", "training_set", "view", "file", "files", "stream")


def bom(facts: Facts) -> dict[str, Any]:
    """The document. The same facts give the same document."""
    data = [_data(version, facts) for version in facts.versions if version.kind in _DATA_KINDS]
    models = [_base(version) for version in facts.versions if version.kind == "model" and version.ref != facts.version.ref]
    libraries = [_library(name, version) for name, version in sorted(facts.dependencies.items())]
    parts = [*data, *models, *libraries]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{facts.ledger}/{facts.version.ref}/{facts.version.digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": iso(facts.version.created_at_s),
            "tools": {"components": [{"type": "application", "name": "bedplate", "version": installed("bedplate")}]},
            "component": _model(facts),
        },
        "components": parts,
        "dependencies": [{"ref": facts.version.ref, "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _hashes(version: Version) -> list[dict[str, str]]:
    return [{"alg": "BLAKE3" if version.kind == "file" else "SHA-256", "content": version.digest}]


def _base(version: Version) -> dict[str, Any]:
    named = {"bom-ref": version.ref, "name": version.name, "version": str(version.number)}
    return {"type": "machine-learning-model", **named, "hashes": _hashes(version)}


def _model(facts: Facts) -> dict[str, Any]:
    licenses = {"licenses": [{"license": {"name": facts.license}}]} if facts.license else {}
    properties = {"ledger": facts.ledger, "project": facts.project, "run": facts.version.run}
    run = facts.run
    if run is not None and run.made.get("code"):
        code = run.made["code"]
        properties |= {"code": code.get("snapshot"), "commit": code.get("commit"), "uncommitted": code.get("dirty")}
    energy = sum(spent.energy_kwh or 0.0 for spent in facts.spent)
    if facts.spent:
        properties["energy_kwh_estimate"] = f"{energy:.6g}"
    return {**_base(facts.version), **licenses, "properties": _properties(properties), "modelCard": _card(facts)}


def _properties(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"bedplate:{name}", "value": str(value)} for name, value in values.items() if value not in (None, "")]


def _card(facts: Facts) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "datasets": [{"ref": version.ref} for version in facts.versions if version.kind in ("table", "training_set")],
    }
    fields = facts.signature.get("inputs") or facts.signature.get("fields") or ()
    shown = [{"format": _field(field)} for field in fields]
    if shown:
        parameters["inputs"] = shown
    outputs = [{"format": _field(field)} for field in facts.signature.get("outputs") or ()]
    if outputs:
        parameters["outputs"] = outputs
    if facts.signature.get("label"):
        parameters["approach"] = {"type": "supervised"}
    params = (facts.run.params if facts.run is not None else {}) or {}
    card: dict[str, Any] = {"modelParameters": parameters, "properties": _properties({f"param:{k}": v for k, v in sorted(params.items())})}
    metrics = performance(facts.evaluation)
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    return card


def _field(field: Any) -> str:
    if isinstance(field, Mapping):
        kind = field.get("type") or field.get("dtype") or ""
        shape = f" {field['shape']}" if field.get("shape") else ""
        return f"{field.get('name', '')}: {kind}{shape}"
    return ": ".join(map(str, field)) if isinstance(field, list | tuple) else str(field)


def performance(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics of an evaluation, whole and by slice, as CycloneDX has them."""
    found = [{"type": name, "value": number(value)} for name, value in sorted((evaluation.get("metrics") or {}).items())]
    for name, slices in sorted((evaluation.get("slices") or {}).items()):
        for group, metrics in sorted(slices.items()) if isinstance(slices, Mapping) else ():
            for metric, value in sorted(metrics.items()) if isinstance(metrics, Mapping) else ():
                found.append({"type": metric, "value": number(value), "slice": f"{name}={group}"})
    return found


def _data(version: Version, facts: Facts) -> dict[str, Any]:
    sheet = next((sheet for sheet in facts.sheets if sheet.version.ref == version.ref), None)
    meta = version.meta
    known = {"rows": meta.get("rows"), "table_version": meta.get("table_version"), "kind": version.kind, "made_by": version.run}
    contents = {"properties": _properties(known)}
    entry: dict[str, Any] = {"type": "dataset", "name": version.name, "contents": contents}
    licenses: dict[str, Any] = {}
    if sheet is not None:
        entry |= _governed(sheet)
        licenses = {"licenses": [{"license": {"name": sheet.license}}]} if sheet.license else {}
    named = {"bom-ref": version.ref, "name": version.name, "version": str(version.number)}
    return {"type": "data", **named, "hashes": _hashes(version), **licenses, "data": [entry]}


def _governed(sheet: Sheet) -> dict[str, Any]:
    found: dict[str, Any] = {"description": f"read from {sheet.source}" + (f"; residency: {sheet.residency}" if sheet.residency else "")}
    if sheet.subject:
        found["sensitiveData"] = [f"rows about persons, named by the column {sheet.subject}"]
        found["classification"] = "personal data"
    return found


def _library(name: str, version: str) -> dict[str, Any]:
    plain = version.partition("+")[0]  # a package URL names what the index has, without a local part such as +cpu
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{plain}"
    local = {"properties": [{"name": "bedplate:installed", "value": version}]} if plain != version else {}
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, **local}
