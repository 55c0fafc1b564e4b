"""The planner: what `plan` says of the flights example, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, NotFound, SpecError
from bedplate.core.event import Draft
from bedplate.flow.planner import check_run_targets, plan, steps_at, steps_for
from bedplate.flow.workspace import open_workspace
from flow.world import SHOP, World

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
GOLDEN = Path(__file__).parent / "golden" / "plan-flights.txt"


def test_the_plan_of_the_flights_example(tmp_path: Path) -> None:
    for path in (FLIGHTS / "bedplate.yaml", *FLIGHTS.glob("*.py")):
        shutil.copy(path, tmp_path)
    with open_workspace(tmp_path) as workspace:
        assert plan(workspace).text() + "\n" == GOLDEN.read_text()
        assert workspace.ledger.head().seq == 0, "a plan records nothing"
    made = {path.relative_to(tmp_path / ".bedplate").as_posix() for path in (tmp_path / ".bedplate").rglob("*")}
    assert all(name.startswith(("ledger.", "projection.")) for name in made), "a plan starts nothing and makes nothing"


def test_a_plan_after_a_change_says_what_changed_and_what_is_kept(world: World) -> None:
    world.drive("up")
    (world.folder / "README.md").write_text("a note")
    assert plan(world.workspace).to_run == (), "a README is no input"
    world.declare(SHOP.replace("windows: [1h]", "windows: [1h, 6h]"))
    planned = {step.step.name: (step.verdict, step.why) for step in plan(world.workspace).steps}
    assert planned["make"] == ("fresh", "data/rows.csv@1 by make-1")
    assert planned["rows"] == ("fresh", "rows@1 by rows-1")
    assert planned["sums"] == ("run", "its declaration changed since sums-1")
    assert planned["fit.inputs"] == ("waits", "after sums")
    assert planned["price"] == ("waits", "after fit, fit.inputs")


def test_a_step_under_way_says_so(world: World) -> None:
    world.scripts["other"] = lambda _: [(1e6, "ended", {})]
    world.ask("run", "other")
    with world.loop() as loop:
        world.tick(loop, lambda: bool(world.events("attempt.started")))
    assert plan(world.workspace, ["other"]).step("other").why == "under way as other-1"


def test_force_names_steps_to_run_again(world: World) -> None:
    world.drive("run", "rows")
    planned = plan(world.workspace, ["rows"], force=["make"])
    assert [(step.step.name, step.verdict) for step in planned.steps] == [("make", "run"), ("rows", "waits")]


def test_targets_select_what_they_need(world: World) -> None:
    assert [step.step.name for step in plan(world.workspace, ["sums"]).steps] == ["make", "rows", "sums"]
    with pytest.raises(NotFound, match="did you mean 'sums'"):
        plan(world.workspace, ["sum"])


def test_a_promotion_rule_that_is_none_is_refused_before_anything_runs(world: World) -> None:
    world.declare(SHOP.replace("rmse <= 5", "import os"))
    with pytest.raises(SpecError):
        steps_for(world.workspace.project.spec, ["make"])


@pytest.mark.parametrize("target", ["price", "prices", "prices.features"])
def test_run_moves_no_alias_and_no_endpoint(world: World, target: str) -> None:
    with pytest.raises(BedplateError, match="models and endpoints are moved by `up`"):
        check_run_targets(world.workspace.project.spec, ["make", target])


def test_run_makes_data_features_and_jobs(world: World) -> None:
    check_run_targets(world.workspace.project.spec, ["make", "rows", "sums", "fit.inputs", "fit"])


def test_at_a_snapshot_what_only_made_its_tables_is_left_out(world: World) -> None:
    world.drive("up")
    pinned = {"pinned": {"rows": {"version": "rows@1"}}, "stale": [], "digest": "", "by": "", "reason": ""}
    world.workspace.ledger.append([Draft("snapshot.taken", "monday", pinned)])
    world.workspace.refresh()
    names = [step.name for step in steps_for(world.workspace.project.spec, ["fit"])]
    assert names[:2] == ["make", "rows"], "a job writes what is ingested"
    at_monday = steps_at(world.workspace, ["fit"], "monday")
    assert [step.name for step in at_monday] == names[1:]
    assert at_monday[0].needs == at_monday[0].sources == ()
    assert [step.name for step in steps_at(world.workspace, [], "monday")] == [
        step.name for step in steps_for(world.workspace.project.spec, [])
    ], "without a target everything declared is meant"
    assert steps_at(world.workspace, ["fit"]) == steps_for(world.workspace.project.spec, ["fit"])
