"""The bill of materials: the official schema of CycloneDX 1.6 accepts it, and it says what the model is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bedplate.models.evidence.bom import bom, performance
from bedplate.models.evidence.facts import Facts


def objections(document: dict[str, Any]) -> object:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))


def test_the_official_schema_accepts_it(facts: Facts) -> None:
    assert objections(bom(facts)) is None


def test_the_schema_is_really_asked(facts: Facts) -> None:
    document = bom(facts)
    document["metadata"]["component"]["modelCard"]["surprise"] = 1
    assert objections(document) is not None


@pytest.mark.parametrize(
    "bare",
    [{"evaluation": {}, "decisions": (), "sheets": (), "spent": (), "dependencies": {}, "signature": {}, "license": ""}, {"runs": ()}],
)
def test_what_is_not_known_is_left_out_and_the_schema_holds(facts: Facts, bare: dict[str, Any]) -> None:
    document = bom(replace(facts, **bare))
    assert objections(document) is None
    if "evaluation" in bare:
        model = document["metadata"]["component"]
        assert "licenses" not in model
        assert "quantitativeAnalysis" not in model["modelCard"]


def test_the_model_has_its_digest_card_and_data(facts: Facts) -> None:
    model = bom(facts)["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "price", "2")
    assert model["hashes"] == [{"alg": "SHA-256", "content": facts.version.digest}]
    assert model["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    card = model["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": "fit.inputs@2"}, {"ref": "rows@3"}]
    assert card["modelParameters"]["approach"] == {"type": "supervised"}
    assert [each["format"] for each in card["modelParameters"]["inputs"]] == ["size: float64 [-1]", "shop: string [-1]"]
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "rmse", "value": "1.5"}]
    properties = {each["name"]: each["value"] for each in model["properties"]}
    assert properties["bedplate:run"] == "fit-2"
    assert properties["bedplate:code"] == "c" * 64
    assert float(properties["bedplate:energy_kwh_estimate"]) == pytest.approx(0.0802)


def test_tables_are_data_with_what_was_declared(facts: Facts) -> None:
    parts = {part["bom-ref"]: part for part in bom(facts)["components"]}
    rows = parts["rows@3"]
    assert rows["type"] == "data"
    assert rows["licenses"] == [{"license": {"name": "CC-BY-4.0"}}]
    assert rows["data"][0]["classification"] == "personal data"
    assert "residency: EU" in rows["data"][0]["description"]
    assert {"name": "bedplate:rows", "value": "100"} in rows["data"][0]["contents"]["properties"]
    assert parts["data/rows.csv@1"]["hashes"][0]["alg"] == "BLAKE3", "a single file is named by the digest of its bytes"


def test_libraries_have_package_urls(facts: Facts) -> None:
    libraries = {part["name"]: part for part in bom(facts)["components"] if part["type"] == "library"}
    assert libraries["torch"]["purl"] == "pkg:pypi/torch@2.9.0"
    assert libraries["torch"]["properties"] == [{"name": "bedplate:installed", "value": "2.9.0+cpu"}]
    assert libraries["opt_einsum"]["purl"] == "pkg:pypi/opt-einsum@3.4.0"


def test_everything_is_what_the_model_depends_on(facts: Facts) -> None:
    document = bom(facts)
    [depends] = document["dependencies"]
    assert depends["ref"] == "price@2"
    assert depends["dependsOn"] == [part["bom-ref"] for part in document["components"]]


def test_the_same_facts_give_the_same_document(facts: Facts) -> None:
    assert json.dumps(bom(facts)) == json.dumps(bom(facts))
    assert bom(facts)["serialNumber"] != bom(replace(facts, ledger="another"))["serialNumber"]


def test_slices_are_metrics_of_their_own() -> None:
    found = performance({"metrics": {"mae": 2.0}, "slices": {"shop": {"s1": {"mae": 3.0}, "s2": {"mae": 1.25}}}})
    assert found == [
        {"type": "mae", "value": "2"},
        {"type": "mae", "value": "3", "slice": "shop=s1"},
        {"type": "mae", "value": "1.25", "slice": "shop=s2"},
    ]
