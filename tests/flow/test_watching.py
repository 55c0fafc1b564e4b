"""Triggers: what makes one due, that it fires once for a cause, and that a watcher may be killed at any time."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.flow.opened import open_project
from bedplate.flow.watching import DAY_S, Due, Watcher, _latest
from bedplate.flow.workspace import open_workspace
from flow.world import SHOP, START_S, World

WATCHED = SHOP.replace('  make: {command: "true", outputs: [data/rows.csv], max_restarts: 2, resources: {cpus: 0.2}}\n', "")


def declare(world: World, trigger: str) -> Watcher:
    """The shop without the job that writes its rows, and one trigger."""
    (world.folder / "data").mkdir(exist_ok=True)
    if not (world.folder / "data" / "rows.csv").exists():
        (world.folder / "data" / "rows.csv").write_text("1")
    world.declare(WATCHED + f"watch:\n  nightly: {{{trigger}}}\n")
    return Watcher(world.workspace)


def look(watcher: Watcher) -> list[Due]:
    due, troubles = watcher.due()
    assert troubles == []
    return due


def drive(world: World, watcher: Watcher) -> list[str]:
    """Fire what is due, drive it to its end, and say which steps ran."""
    ran = []
    for due in look(watcher):
        launch = watcher.fire(due)
        with world.loop() as loop:
            world.tick(loop, lambda launch=launch: world.launch(launch).status != "open")
        ran += world.ran(launch)
    return ran


def test_a_project_that_was_never_made_is_due_and_then_is_not(world: World) -> None:
    watcher = declare(world, "changed: [data, code]")
    [due] = look(watcher)
    assert (due.trigger, due.mode, due.targets) == ("nightly", "up", ())
    assert "rows was never made" in due.why
    assert {"rows", "fit", "price", "prices"} <= set(drive(world, watcher))
    world.clock.sleep(3600)
    assert look(watcher) == []


def test_new_data_makes_what_needs_it_run_and_the_launch_says_why(world: World) -> None:
    watcher = declare(world, "changed: data")
    drive(world, watcher)
    (world.folder / "data" / "rows.csv").write_text("1\n2")
    world.contents |= {"rows": "2", "sums": "2", "fit.inputs": "2", "fit": "2"}
    assert look(watcher) == [], "not within the pause"
    world.clock.sleep(120)
    [due] = look(watcher)
    assert due.why == "new data in data/rows.csv"
    assert {"rows", "sums", "fit.inputs", "fit", "price"} <= set(drive(world, watcher))
    fired = world.events("watch.fired")[-1]
    asked = next(event for event in world.events("launch.requested") if event.subject == fired.payload["launch"])
    assert fired.payload["why"] == "new data in data/rows.csv"
    assert asked.payload["why"] == "watch nightly: new data in data/rows.csv"
    assert asked.seq == fired.seq - 1, "in one transaction"


def test_changed_code_counts_only_for_a_trigger_of_code(world: World) -> None:
    watcher = declare(world, "changed: data")
    drive(world, watcher)
    (world.folder / "fit.py").write_text((world.folder / "fit.py").read_text() + "# more\n")
    world.clock.sleep(120)
    assert look(watcher) == []
    watcher = declare(world, "changed: code")
    [due] = look(watcher)
    assert "the code of fit changed" in due.why
    world.contents["fit"] = "2"
    assert "fit" in drive(world, watcher)


def test_a_declaration_that_changed_counts_as_code(world: World) -> None:
    watcher = declare(world, "changed: code, targets: [fit]")
    drive(world, watcher)
    world.clock.sleep(120)
    (world.folder / "bedplate.yaml").write_text((world.folder / "bedplate.yaml").read_text().replace("lr: 0.1", "lr: 0.3"))
    world.declare((world.folder / "bedplate.yaml").read_text())
    assert [due.why for due in look(Watcher(world.workspace))] == ["the declaration of fit changed"]


def test_what_failed_is_not_tried_again_until_something_changes(world: World) -> None:
    watcher = declare(world, "changed: [data, code], targets: [rows]")
    world.scripts["rows"] = lambda _: [(1.0, "ended", {"status": "failed", "failure": "user_error", "message": "no"})]
    assert drive(world, watcher) == ["rows"]
    world.clock.sleep(3600)
    assert look(watcher) == []
    (world.folder / "data" / "rows.csv").write_text("1\n2\n3")
    assert len(look(watcher)) == 1


def test_a_schedule_counts_from_when_it_was_first_seen(world: World) -> None:
    watcher = declare(world, "every: 1d, targets: [rows]")
    assert look(watcher) == []
    world.clock.sleep(DAY_S - 1)
    assert look(watcher) == []
    world.clock.sleep(1)
    [due] = look(watcher)
    assert due.why.startswith("every 1d: the last time was 2023-11-14")
    drive(world, watcher)
    assert look(watcher) == []
    world.clock.sleep(DAY_S)
    assert len(look(watcher)) == 1


def test_a_time_of_day_that_passed_while_nobody_watched_is_made_up_for_once(world: World) -> None:
    watcher = declare(world, 'at: "03:30", targets: [rows]')
    assert look(watcher) == []  # it began at 22:13
    world.clock.sleep(5 * DAY_S)
    [due] = look(Watcher(world.workspace))
    assert due.why == "at 03:30: it was due 2023-11-19T03:30:00.000Z"
    drive(world, watcher)
    assert look(watcher) == []


@pytest.mark.parametrize(
    ("at", "days", "hours"),
    [("22:13", 0, 22.2166667), ("22:14", -1, 22.2333333), ("tue 03:30", 0, 3.5), ("wed 03:30", -6, 3.5), ("tue 23:00", -7, 23)],
)
def test_the_latest_of_a_time_of_day(at: str, days: int, hours: float) -> None:
    midnight = START_S - START_S % DAY_S  # START_S is Tuesday, 22:13:20
    assert _latest(at, START_S) == pytest.approx(midnight + days * DAY_S + hours * 3600, abs=1)


def test_a_watcher_that_was_killed_fires_nothing_twice_and_its_launch_is_found(world: World) -> None:
    watcher = declare(world, "changed: [data, code], targets: [rows]")
    [due] = look(watcher)
    launch = watcher.fire(due)
    world.workspace.close()  # killed here: nobody drove the launch
    world.workspace = open_workspace(world.folder, clock=world.clock)
    again = Watcher(world.workspace)
    assert look(again) == [] and again.unfinished() == [launch]
    with world.loop() as loop:
        world.tick(loop, lambda: world.launch(launch).status != "open")
    assert again.unfinished() == [] and look(again) == []
    assert len(world.events("watch.fired")) == len(world.events("watch.began")) == 1


def test_what_keeps_a_trigger_from_being_judged_is_told(world: World) -> None:
    watcher = declare(world, "changed: data")
    (world.folder / "data" / "rows.csv").unlink()
    due, [trouble] = watcher.due()
    assert due == [] and trouble.startswith("nightly: the source file is missing")


def test_a_trigger_waits_for_the_end_of_what_it_asked_for_and_for_its_pause(world: World) -> None:
    watcher = declare(world, "changed: data, targets: [rows], pause: 10m")
    [due] = look(watcher)
    launch = watcher.fire(due)
    (world.folder / "data" / "rows.csv").write_text("1\n2")
    world.clock.sleep(3600)
    assert look(watcher) == [], "its launch is open"
    with world.loop() as loop:
        world.tick(loop, lambda: world.launch(launch).status != "open")
    (world.folder / "data" / "rows.csv").write_text("1\n2\n3")
    assert len(look(watcher)) == 1, "an hour is more than the pause"
    watcher.fire(look(watcher)[0])
    assert look(watcher) == []


def test_triggers_of_one_project_are_judged_each_by_itself(world: World) -> None:
    watcher = declare(world, "changed: code, targets: [other]}\n  rows: {changed: data, targets: [rows]}\n  daily: {every: 1d")
    assert [(due.trigger, due.targets) for due in look(watcher)] == [("nightly", ("other",)), ("rows", ("rows",))]
    drive(world, watcher)
    world.clock.sleep(DAY_S)
    assert [due.trigger for due in look(watcher)] == ["daily"]
    assert {event.subject for event in world.events("watch.began")} == {"nightly", "rows", "daily"}


@pytest.mark.parametrize(
    ("trigger", "trouble"),
    [
        ("changed: data, targets: [rose]", "no such target (got 'rose'). Fix: did you mean 'rows'"),
        ("drift: {rose.amount: 0.1}", "a drift names no dataset (got 'rose.amount'). Fix: did you mean 'rows'"),
    ],
)
def test_a_trigger_that_names_nothing_is_told_and_the_others_go_on(world: World, trigger: str, trouble: str) -> None:
    watcher = declare(world, f"{trigger}}}\n  good: {{changed: data, targets: [rows]")
    due, [told] = watcher.due()
    assert told.startswith(f"nightly: {trouble}") and [each.trigger for each in due] == ["good"]


def test_code_that_is_no_python_for_a_moment_stops_nothing(world: World) -> None:
    watcher = declare(world, "changed: code, targets: [fit]")
    drive(world, watcher)
    world.clock.sleep(120)
    kept = (world.folder / "fit.py").read_text()
    (world.folder / "fit.py").write_text("def fit(run")
    due, [told] = watcher.due()
    assert due == [] and "not valid Python" in told
    (world.folder / "fit.py").write_text(kept)
    assert look(watcher) == []


PROJECT = """
project: delays
jobs:
  fit: {function: fit.py:fit, inputs: {spine: flights, columns: [distance], label: flights.delay}}
datasets:
  flights:
    {source: rows.csv, key: [id], known_at: at, backfill: trusted, columns: {id: int, at: timestamp, distance: float, delay: float}}
models:
  delay: {from: fit, evaluate: fit.py:evaluate, predict: fit.py:predict}
watch:
  drifting: {targets: [delay], drift: {flights.distance: 0.2}, pause: 1ms}
"""
FIT = """
import torch


def fit(run):
    return run.save(torch.nn.Linear(1, 1))


def predict(version, rows):
    return [0.0 for _ in rows]


def evaluate(version, feed):
    return {"rows": float(feed.rows("test"))}
"""


def rows(shift: int) -> str:
    days = [f"{n},2024-01-{1 + n // 24:02d}T{n % 24:02d}:00:00,{n % 17 + shift},{n % 5}" for n in range(300)]
    return "\n".join(["id,at,distance,delay", *days]) + "\n"


def test_a_drift_is_measured_against_what_production_was_trained_on(tmp_path: Path) -> None:
    for name, text in {"bedplate.yaml": PROJECT, "fit.py": FIT, "rows.csv": rows(0)}.items():
        (tmp_path / name).write_text(text)
    with open_project(tmp_path) as project:
        project.up("delay")
        watcher = Watcher(project._workspace)
        assert look(watcher) == []
        (tmp_path / "rows.csv").write_text(rows(9))
        [measure] = look(watcher)
        assert (measure.mode, measure.targets) == ("run", ("flights",)) and "whose drift is to be measured" in measure.why
        watcher.fire(measure)
        project.run("flights")
        [due] = look(watcher)
        assert due.why.startswith("drift: psi(flights.distance) is ") and due.values["psi(flights.distance)"] > 0.2
        watcher.fire(due)
        assert project._workspace.records.watched["drifting"]["values"] == due.values


def test_while_a_budget_is_spent_nothing_is_asked_for_and_afterwards_it_is(world: World) -> None:
    pools = "pools: {colo: {engine: local, price: {on_demand: 3600, source: contract, at: 2026-01-01}}}\n"
    (world.folder / "pools.yaml").write_text(pools)
    watcher = declare(world, "changed: [data, code]}\npolicies: {budget: 1 USD per day")
    drive(world, watcher)
    (world.folder / "data" / "rows.csv").write_text("1\n2")
    world.clock.sleep(3600)
    assert watcher.due() == ([], ["nothing is launched: the budget of 1 USD per day is spent"])
    world.clock.sleep(DAY_S)
    [due] = look(watcher)
    assert "new data in data/rows.csv" in due.why
