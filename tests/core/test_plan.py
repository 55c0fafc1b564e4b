"""The plan: as people read it, golden, and as JSON."""

from __future__ import annotations

import json

import pytest

from bedplate.core.plan import Plan, PlannedStep, Step
from bedplate.core.pool import Placement
from bedplate.core.spec import Resources

HERE = Placement("here", "local", 1, (), "one machine")
PAIR = Placement("here", "local", 2, (0, 1), "two devices are free")


def step(name: str, kind: str, *needs: str, workers: int = 1) -> Step:
    return Step(name, kind, needs, {"name": name}, resources=Resources(workers=workers))


PLAN = Plan(
    "flights",
    ("delay",),
    (
        PlannedStep(step("departures", "ingest"), "fresh", "up to date", "a" * 64, HERE, 2.0, "departures-1"),
        PlannedStep(step("arrivals", "ingest"), "run", "log://arrivals has 300 new records", "b" * 64, HERE, 12.4),
        PlannedStep(step("route_gain", "feature", "arrivals"), "waits", "after arrivals", None, HERE, 61.0),
        PlannedStep(step("train_delay", "train", "departures", "route_gain", workers=2), "waits", "after route_gain", None, PAIR, None),
        PlannedStep(step("delay", "gate", "train_delay"), "waits", "after train_delay"),
    ),
)

TEXT = """\
step         kind     verdict  where    last took  why
departures   ingest   fresh    here     2.0 s      up to date
arrivals     ingest   run      here     12 s       log://arrivals has 300 new records
route_gain   feature  waits    here     1 min 1 s  after arrivals
train_delay  train    waits    here x2  -          after route_gain
delay        gate     waits             -          after train_delay

1 to run, 3 wait for them, 1 up to date; about 1 min 13 s by the last runs (an estimate)"""


def test_the_plan_as_people_read_it() -> None:
    assert PLAN.text() == TEXT


def test_a_plan_of_nothing() -> None:
    assert Plan("flights", ()).text() == "step  kind  verdict  where  last took  why\n\n0 to run, 0 wait for them, 0 up to date"


def test_a_plan_that_was_never_run_promises_no_time() -> None:
    plan = Plan("flights", (), (PlannedStep(step("a", "job"), why="never run"),))
    assert plan.estimate_s is None
    assert plan.text().endswith("1 to run, 0 wait for them, 0 up to date")


def test_the_estimate_adds_up_what_would_run() -> None:
    assert PLAN.estimate_s == pytest.approx(12.4 + 61.0)
    assert [planned.step.name for planned in PLAN.to_run] == ["arrivals", "route_gain", "train_delay", "delay"]


def test_a_step_by_name() -> None:
    assert PLAN.step("train_delay").placement == PAIR
    with pytest.raises(KeyError):
        PLAN.step("nowhere")


def test_the_plan_is_plain_json() -> None:
    values = json.loads(json.dumps(PLAN.to_json()))
    assert (values["project"], values["targets"], values["estimate_s"]) == ("flights", ["delay"], pytest.approx(73.4))
    shown = values["steps"][3]
    assert (shown["verdict"], shown["why"], shown["placement"]["accelerators"]) == ("waits", "after route_gain", [0, 1])
    assert shown["step"]["needs"] == ["departures", "route_gain"]
    assert shown["step"]["resources"] == {
        "workers": 2,
        "most_workers": None,
        "cpus": 1.0,
        "memory_gb": 0.0,
        "accelerators": "0",
    }
    assert values["steps"][4]["placement"] is None
