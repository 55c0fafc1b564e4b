"""The lineage of a model version as OpenLineage run events: a START and an end for every run that it came from.

Source: OpenLineage 2-0-2 (https://openlineage.io/spec/2-0-2/OpenLineage.json) and its facets.
Does not know: where events are sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from bedplate.core.clock import iso
from bedplate.core.record import RunRecord
from bedplate.core.versions import Version
from bedplate.models.evidence.facts import PRODUCER, Facts, Sheet

_SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_ENDS = {"succeeded": "COMPLETE", "failed": "FAIL"}


def events(facts: Facts) -> list[dict[str, Any]]:
    """The events in the order of time."""
    found = []
    for run in facts.runs:
        found.append((run.created_at_s, 0, run.id, _event(facts, run, "START", run.created_at_s, ())))
        if run.ended_at_s is not None:
            made = [version for version in facts.versions if version.run == run.id]
            found.append((run.ended_at_s, 1, run.id, _event(facts, run, _ENDS.get(run.status, "ABORT"), run.ended_at_s, made)))
    return [event for _, _, _, event in sorted(found, key=lambda each: each[:3])]


def run_id(ledger: str, run: str) -> str:
    """The UUID of a run: of version 5, so the same run has the same one in every export."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCER}/ledger/{ledger}/run/{run}"))


def _event(facts: Facts, run: RunRecord, kind: str, at_s: float, made: Iterable[Version]) -> dict[str, Any]:
    refs = set(run.made.get("inputs", {}).values())
    read = [version for version in facts.versions if version.ref in refs]
    namespace = f"bedplate://{facts.project}"
    engine = _facet("1-1-1/ProcessingEngineRunFacet", version=_python(run), name="bedplate")
    job = _facet("2-0-4/JobTypeJobFacet", processingType="BATCH", integration="BEDPLATE", jobType=run.kind.upper())
    facets: dict[str, Any] = {"jobType": job}
    code = run.made.get("code")
    if code and code.get("snapshot"):
        url = f"bedplate:snapshot/{code['snapshot']}"
        facets["sourceCodeLocation"] = _facet("1-1-0/SourceCodeLocationJobFacet", type="bedplate", url=url, version=code["snapshot"])
    return {
        "eventType": kind,
        "eventTime": iso(at_s),
        "producer": PRODUCER,
        "schemaURL": _SPEC,
        "run": {"runId": run_id(facts.ledger, run.id), "facets": {"processing_engine": engine, "bedplate_run": _own(run)}},
        "job": {"namespace": namespace, "name": run.step, "facets": facets},
        "inputs": [_dataset(namespace, version, facts.sheets) for version in read],
        "outputs": [_dataset(namespace, version, facts.sheets) for version in made],
    }


def _python(run: RunRecord) -> str:
    return str((run.made.get("environment") or {}).get("python", "unknown"))


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    version, name = schema.split("/")
    return {"_producer": PRODUCER, "_schemaURL": f"{_FACETS}/{version}/{name}.json#/$defs/{name}", **values}


def _own(run: RunRecord) -> dict[str, Any]:
    """What a run of bedplate has beyond the standard facets."""
    schema = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"
    known = {"run": run.id, "status": run.status, "fingerprint": run.made.get("fingerprint"), "params": dict(run.params)}
    return {"_producer": PRODUCER, "_schemaURL": schema, **known}


def _dataset(namespace: str, version: Version, sheets: Iterable[Sheet]) -> dict[str, Any]:
    facets: dict[str, Mapping[str, Any]] = {"version": _facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=str(version.number))}
    sheet = next((sheet for sheet in sheets if sheet.version.ref == version.ref), None)
    if sheet is not None and sheet.columns:
        fields = [{"name": column.name, "type": column.type} for column in sheet.columns]
        facets["schema"] = _facet("1-2-0/SchemaDatasetFacet", fields=fields)
    return {"namespace": namespace, "name": version.name, "facets": facets}
