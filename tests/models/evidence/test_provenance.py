"""Provenance: SLSA v1 about the version, from its run and inputs."""

from __future__ import annotations

from dataclasses import replace

from bedplate.models.evidence.facts import Facts
from bedplate.models.evidence.provenance import BUILD_TYPE, PREDICATE_TYPE, provenance
from models.evidence.sample import ENVIRONMENT, SET


def test_it_speaks_of_the_version_and_names_code_and_inputs_by_digest(facts: Facts) -> None:
    said = provenance(facts)
    assert said["predicateType"] == PREDICATE_TYPE
    assert said["subject"] == [{"name": "price@2", "digest": {"sha256": facts.version.digest}}]
    build = said["predicate"]["buildDefinition"]
    assert build["buildType"] == BUILD_TYPE
    assert build["externalParameters"] == {"project": "shop", "output": "price", "step": "fit", "params": {"lr": 0.1}}
    assert build["internalParameters"]["environment"] == ENVIRONMENT
    assert build["resolvedDependencies"] == [
        {"uri": "bedplate://shop/fit.inputs@2", "digest": {"sha256": SET.digest}},
        {"uri": "bedplate:snapshot/" + "c" * 64, "digest": {"sha256": "c" * 64}},
    ]


def test_it_says_who_ran_it_and_when(facts: Facts) -> None:
    details = provenance(facts)["predicate"]["runDetails"]
    assert details["builder"]["id"].endswith(facts.ledger)
    assert details["metadata"]["invocationId"] == "fit-2"
    assert details["metadata"]["startedOn"] < details["metadata"]["finishedOn"]


def test_a_version_that_no_run_made_says_where_it_came_from(facts: Facts) -> None:
    version = replace(facts.version, run="", meta={"source": "dir:///models/base"})
    build = provenance(replace(facts, version=version))["predicate"]["buildDefinition"]
    assert build["externalParameters"]["source"] == "dir:///models/base"
    assert build["resolvedDependencies"] == []
