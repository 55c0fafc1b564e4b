"""Lineage as OpenLineage: its published schema and those of its facets accept every event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from bedplate.models.evidence.facts import Facts
from bedplate.models.evidence.openlineage import events, run_id

SCHEMAS = Path(__file__).parents[4] / "shared" / "schemas" / "openlineage"
BESIDE = Path(__file__).parents[3] / "shared" / "schemas" / "openlineage"


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    """The published schemas by their address, read where they lie."""
    folder = next((each for each in (BESIDE, SCHEMAS) if each.is_dir()), None)
    if folder is None:
        pytest.skip("NOT VALIDATED: the schemas of OpenLineage are not here (shared/schemas/openlineage)")
    loaded = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {schema["$id"]: schema for schema in loaded}


def validator(schemas: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    registry: Registry[Any] = Registry().with_resources([(name, Resource.from_contents(each)) for name, each in schemas.items()])
    return Draft202012Validator(schema, registry=registry, format_checker=FormatChecker())


def facets(event: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    holders = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    return [(name, facet) for holder in holders for name, facet in holder["facets"].items()]


def test_the_published_schema_accepts_every_event(facts: Facts, schemas: dict[str, Any]) -> None:
    core = schemas["https://openlineage.io/spec/2-0-2/OpenLineage.json"]
    check = validator(schemas, {"$ref": f"{core['$id']}#/$defs/RunEvent"})
    found = events(facts)
    assert len(found) == 8
    for event in found:
        assert list(check.iter_errors(event)) == []
    assert list(check.iter_errors({**found[0], "run": {"runId": "no uuid"}})), "the schema is really asked"


def test_each_facet_is_accepted_by_its_own_schema(facts: Facts, schemas: dict[str, Any]) -> None:
    seen = set()
    for event in events(facts):
        for name, facet in facets(event):
            address = facet["_schemaURL"].partition("#")[0]
            assert address in schemas, f"{name} names a version of its schema that is not published: {address}"
            check = validator(schemas, {"$ref": facet["_schemaURL"]})
            assert list(check.iter_errors(facet)) == [], name
            if "/facets/" in address:  # ours is checked as any facet is
                assert list(validator(schemas, schemas[address]).iter_errors({name: facet})) == [], name
            seen.add(name)
    assert {"version", "schema", "jobType", "processing_engine", "sourceCodeLocation"} <= seen


def test_events_come_in_the_order_of_time_and_every_run_ends(facts: Facts) -> None:
    found = events(facts)
    assert [event["eventTime"] for event in found] == sorted(event["eventTime"] for event in found)
    kinds: dict[str, list[str]] = {}
    for event in found:
        kinds.setdefault(event["job"]["name"], []).append(event["eventType"])
    assert kinds == {name: ["START", "COMPLETE"] for name in ("make", "rows", "fit.inputs", "fit")}


def test_an_event_names_what_was_read_and_made(facts: Facts) -> None:
    [end] = [event for event in events(facts) if event["job"]["name"] == "fit" and event["eventType"] == "COMPLETE"]
    assert [each["name"] for each in end["inputs"]] == ["fit.inputs"]
    assert [each["name"] for each in end["outputs"]] == ["price"]
    assert end["outputs"][0]["facets"]["version"]["datasetVersion"] == "2"
    [rows] = [each for event in events(facts) for each in event["outputs"] if each["name"] == "rows"]
    assert [field["name"] for field in rows["facets"]["schema"]["fields"]] == ["id", "shop|x"]


def test_a_run_has_one_identity_in_every_export(facts: Facts) -> None:
    ids = {event["run"]["runId"] for event in events(facts) if event["job"]["name"] == "fit"}
    assert ids == {run_id(facts.ledger, "fit-2")}
    assert run_id("other", "fit-2") != run_id(facts.ledger, "fit-2")


@pytest.mark.parametrize(("status", "told"), [("failed", "FAIL"), ("cancelled", "ABORT"), ("stopped", "ABORT")])
def test_how_a_run_ended(facts: Facts, status: Any, told: str) -> None:
    run = facts.run
    assert run is not None
    run.state = type(run.state)(run.id, status)
    assert [event["eventType"] for event in events(facts) if event["job"]["name"] == "fit"] == ["START", told]


def test_a_run_under_way_has_no_end(facts: Facts) -> None:
    run = facts.run
    assert run is not None
    run.ended_at_s = None
    assert [event["eventType"] for event in events(facts) if event["job"]["name"] == "fit"] == ["START"]
