"""Accepting: what a run's end adds to the ledger, and what it refuses to add."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.digest import canonical
from bedplate.core.event import Draft
from bedplate.core.journal import Entry
from bedplate.core.run import Finish
from bedplate.flow.accept import Findings, finished, storable
from bedplate.flow.facts import location_of
from flow.world import World

DONE = Finish("succeeded")


def output(name: str, digest: str, location: str = "lake/rows", kind: str = "table") -> Entry:
    return Entry("worker", 1, 0.0, "output", {"name": name, "kind": kind, "digest": digest, "location": location, "meta": {"rows": 3}})


def findings(*entries: Entry) -> Findings:
    found = Findings()
    for entry in entries:
        found.add(entry)
    return found


def kinds(drafts: list[Draft]) -> list[str]:
    return [draft.kind for draft in drafts]


def end(drafts: list[Draft]) -> dict[str, Any]:
    return dict(drafts[-1].payload)


def evaluation(production: str | None, promoted: bool, candidate: str = "price@1") -> Entry:
    decision = {"promoted": promoted, "checks": [], "why": "rmse"}
    body = {"model": "price", "alias": "production", "candidate": candidate, "production": production, "decision": decision}
    return Entry("worker", 1, 0.0, "evaluation", {**body, "pinned_set": "fit.inputs@1", "metrics": {"rmse": 1.0}})


def test_findings_gather_what_the_journal_says() -> None:
    found = findings(
        output("rows", "a"),
        Entry("rank-0", 1, 0.0, "param", {"values": {"lr": 0.1}}),
        Entry("rank-0", 2, 0.0, "param", {"values": {"epochs": 2}}),
        Entry("rank-0", 3, 0.0, "tag", {"values": {"note": "x"}}),
        Entry("rank-0", 4, 0.0, "metric", {"values": {"loss": 1.0}, "step": 1}),
        Entry("rank-0", 5, 0.0, "failure", {"failure": "user_error", "message": "no", "rank": 0}),
        Entry("shim", 1, 0.0, "heartbeat", {}),
        output("rows", "b"),
    )
    assert [made.digest for made in found.outputs] == ["b"], "what was said last of an output counts"
    assert (found.params, found.tags, found.metrics, found.failure["message"]) == ({"lr": 0.1, "epochs": 2}, {"note": "x"}, True, "no")


def test_an_output_becomes_a_version_and_the_run_names_it(world: World) -> None:
    world.drive("run", "make")
    run = world.run("make")
    drafts = finished(world.workspace, run, DONE, findings(output("data/rows.csv", "x", "data/rows.csv", "file"), output("made", "y")))
    assert kinds(drafts) == ["version.created", "version.created", "run.finished"]
    assert end(drafts)["outputs"] == ["data/rows.csv@2", "made@1"]
    assert drafts[0].payload["version"]["run"] == "make-1"
    assert end(drafts)["status"] == "succeeded"


def test_equal_content_is_the_version_that_is_there(world: World) -> None:
    world.drive("run", "rows")
    known = world.workspace.records.version("rows@1")
    again = output("rows", known.digest, "runs/rows-2/1/out/made")
    drafts = finished(world.workspace, world.run("rows"), DONE, findings(again))
    assert (kinds(drafts), end(drafts)["outputs"]) == (["run.finished"], ["rows@1"])


def test_equal_content_whose_bytes_are_gone_is_a_new_version(world: World) -> None:
    world.drive("run", "rows")
    known = world.workspace.records.version("rows@1")
    location_of(world.workspace, known).unlink()
    drafts = finished(world.workspace, world.run("rows"), DONE, findings(output("rows", known.digest, "runs/rows-2/1/out/made")))
    assert (kinds(drafts), end(drafts)["outputs"]) == (["version.created", "run.finished"], ["rows@2"])


def test_a_failed_run_makes_no_version_but_tells_its_parameters_and_metrics(world: World) -> None:
    world.drive("run", "fit")
    found = findings(output("price", "x"), Entry("rank-0", 1, 0.0, "param", {"values": {"lr": 0.5}}))
    drafts = finished(world.workspace, world.run("fit"), Finish("failed", "user_error", "diverged"), found)
    assert kinds(drafts) == ["run.finished"]
    assert (end(drafts)["failure"], end(drafts)["message"], end(drafts)["params"]) == ("user_error", "diverged", {"lr": 0.5})
    assert "outputs" not in end(drafts)


def test_a_success_without_a_declared_output_is_a_failure_that_names_it(world: World) -> None:
    world.drive("run", "make")
    drafts = finished(world.workspace, world.run("make"), DONE, findings(output("else", "x")))
    assert kinds(drafts) == ["run.finished"], "nothing of it is accepted"
    assert (end(drafts)["status"], end(drafts)["failure"]) == ("failed", "user_error")
    assert "did not write what it declared: data/rows.csv (write it" in end(drafts)["message"]
    said = Entry("shim", 9, 0.0, "failure", {"failure": "user_error", "message": "a path leads outside", "rank": 0})
    assert "(a path leads outside)" in end(finished(world.workspace, world.run("make"), DONE, findings(said)))["message"]


def test_the_gate_moves_the_alias_in_the_same_transaction(world: World) -> None:
    world.drive("run", "fit")
    drafts = finished(world.workspace, world.run("fit"), DONE, findings(evaluation(None, promoted=True)))
    assert kinds(drafts) == ["evaluation.recorded", "alias.moved", "run.finished"]
    moved = drafts[1].payload
    assert (moved["alias"], moved["version"], moved["decision"]["by"], moved["decision"]["run"]) == ("production", 1, "gate", "fit-1")


def test_a_gate_that_holds_records_the_evaluation_and_moves_nothing(world: World) -> None:
    world.drive("run", "fit")
    drafts = finished(world.workspace, world.run("fit"), DONE, findings(evaluation(None, promoted=False)))
    assert kinds(drafts) == ["evaluation.recorded", "run.finished"]


def test_what_is_in_production_already_is_not_moved_there_again(world: World) -> None:
    world.drive("up", "price")
    drafts = finished(world.workspace, world.run("price"), DONE, findings(evaluation("price@1", promoted=True)))
    assert kinds(drafts) == ["evaluation.recorded", "run.finished"]


def test_an_evaluation_against_a_production_that_moved_meanwhile_counts_for_nothing(world: World) -> None:
    world.drive("up", "price")
    drafts = finished(world.workspace, world.run("price"), DONE, findings(evaluation(None, promoted=True, candidate="price@2")))
    assert kinds(drafts) == ["run.finished"]
    assert end(drafts)["status"] == "failed" and "production moved" in end(drafts)["message"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
)


@settings(max_examples=40, deadline=None)
@given(plain)
def test_whatever_a_worker_says_can_be_stored(value: Any) -> None:
    assert json.loads(canonical(storable(value))) == storable(value)


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.integers() | st.text(st.characters(codec="utf-8")) | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_what_can_be_stored_as_it_is_stays_as_it_is(value: Any) -> None:
    assert storable(value) == value


def test_what_has_no_form_in_json_becomes_text_that_float_reads() -> None:
    assert storable({"loss": float("-inf"), "at": (1, float("nan"))}) == {"loss": "-inf", "at": [1, "nan"]}
    assert math.isnan(float(storable(float("nan"))))
    assert storable("caf\udce9") == "caf?"


def test_equal_content_that_was_removed_is_a_new_version(world: World) -> None:
    world.drive("up")
    version = world.workspace.records.version("price@1")
    payload = {"by": "ann", "reason": "x", "digest": version.digest}
    world.workspace.ledger.append([Draft("version.removed", version.ref, payload)])
    world.workspace.refresh()
    drafts = finished(world.workspace, world.run("fit"), Finish("succeeded"), findings(output("price", version.digest, version.location)))
    assert drafts[0].subject == "price@2", "its bytes lie there, but not for long"


def test_a_success_whose_model_was_refused_is_a_failure_that_says_why(world: World) -> None:
    world.drive("up")
    body = {"failure": "user_error", "message": "loading x.pkl could run code", "rank": 0, "refused": True}
    refused = Entry("worker", 1, 0.0, "failure", body)
    [draft] = finished(world.workspace, world.run("other"), Finish("succeeded"), findings(refused))
    assert (draft.payload["status"], draft.payload["failure"]) == ("failed", "user_error")
    assert draft.payload["message"] == "it ended well, but its model is none: loading x.pkl could run code"
