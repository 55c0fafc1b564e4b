"""Lineage in the flow: what a name leads to, and an answer back to the sources of its model."""

from __future__ import annotations

import pytest

from bedplate.core.errors import NotFound
from bedplate.core.lineage import Node
from bedplate.flow.lineage import lineage
from bedplate.flow.moving import promote
from flow.test_answers import record, stream
from flow.world import SHOP, World


def titles(node: Node) -> list[str]:
    return [node.title, *(title for child in node.children for title in titles(child))]


def test_a_version_leads_to_its_run_and_on_to_the_first_job(world: World) -> None:
    world.drive("up")
    tree = lineage(world.workspace, "price@1")
    found = titles(tree)
    assert found[0].startswith("model price@1")
    for run in ("fit-1", "fit.inputs-1", "sums-1", "rows-1", "make-1"):
        assert sum(title.startswith(f"run {run} ") for title in found) == 1, run
    assert any("data/rows.csv@1" in title for title in found)
    assert tree.facts["hardware"]["cores"] >= 1, "what all runs have in common stands at the root"


def test_aliases_bare_names_and_runs_lead_somewhere_too(world: World) -> None:
    world.drive("up")
    assert lineage(world.workspace, "price@production").title == lineage(world.workspace, "price").title
    assert lineage(world.workspace, "fit-1").title == "run fit-1  (train, succeeded)"


def test_an_answer_leads_to_its_decision_model_and_endpoint(world: World) -> None:
    world.drive("up")
    stream(world).append([record("a-1")], producer="prices-1/1", sequence=0)
    tree = lineage(world.workspace, "a-1")
    assert tree.title == "answer a-1"
    assert (tree.facts["prediction"], tree.facts["features as served"]) == (2.5, {"shop": "s1", "size": None})
    assert tree.facts["latency"] == "1.2 ms"
    decision, model, endpoint = tree.children
    assert decision.title == "decision price@1 -> production"
    assert (decision.facts["by"], decision.facts["metrics"], decision.facts["pinned set"]) == ("gate", {"rmse": 1.0}, "fit.inputs@1")
    assert model.title.startswith("model price@1")
    assert endpoint.title == "endpoint prices on 127.0.0.1:8001, run prices-1  (endpoint, ready)"
    assert sum(title.startswith("run fit-1 ") for title in titles(tree)) == 1, "shown once"


def test_a_version_promoted_by_hand_names_who_and_why(world: World) -> None:
    world.drive("up")
    world.contents["fit"], world.rmse = "2", 9.0
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2"))
    world.drive("up")
    promote(world.workspace, "price@2", "the gate is too strict")
    stream(world).append([record("a-2", model="price@2")], producer="prices-1/1", sequence=0)
    decision = lineage(world.workspace, "a-2").children[0]
    assert decision.facts["why"] == "the gate is too strict"
    assert decision.facts["metrics"] == {"rmse": 9.0}, "what the gate found is told, though a person decided"


def test_what_nothing_is_called_is_not_found(world: World) -> None:
    world.drive("run", "make")
    with pytest.raises(NotFound, match=r"no answer, version or run of that name.*'make-1'"):
        lineage(world.workspace, "make-2")
    with pytest.raises(NotFound, match="no version of that name"):
        lineage(world.workspace, "make@9")


def test_a_step_s_name_is_that_of_its_newest_run(world: World) -> None:
    world.drive("run", "make")
    world.drive("run", "make", force=("make",))
    assert lineage(world.workspace, "make").title == lineage(world.workspace, "make-2").title
