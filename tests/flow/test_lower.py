"""Lowering: which steps a project has, what each needs, and what is in a fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bedplate.core.errors import NotFound
from bedplate.core.project import validate
from bedplate.core.source import parse
from bedplate.core.spec import ProjectSpec
from bedplate.flow.lower import lower, select

FLIGHTS = (Path(__file__).parents[2] / "examples" / "flights" / "bedplate.yaml").read_text()


def flights(**changes: Any) -> ProjectSpec:
    values = yaml.safe_load(FLIGHTS)
    for path, value in changes.items():
        place = values
        *parts, last = path.split("__")
        for part in parts:
            place = place[part]
        place[last] = value
    return validate(parse(yaml.safe_dump(values), "bedplate.yaml"))


def specs(spec: ProjectSpec) -> dict[str, Any]:
    return {step.name: (step.spec, step.needs, step.entries, step.sources) for step in lower(spec)}


def changed(before: ProjectSpec, after: ProjectSpec) -> set[str]:
    old, new = specs(before), specs(after)
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}


def test_every_step_comes_after_what_it_needs() -> None:
    steps = lower(flights())
    seen: set[str] = set()
    for step in steps:
        assert set(step.needs) <= seen, step.name
        seen.add(step.name)
    assert {"replay", "departures", "route_gain", "train_delay.inputs", "train_delay", "delay", "delay-api.features", "delay-api"} <= seen


def test_a_dataset_needs_the_job_that_writes_its_source() -> None:
    steps = {step.name: step for step in lower(flights())}
    assert steps["departures"].needs == ("replay",)
    assert steps["departures"].sources == ()


def test_a_source_that_no_job_writes_is_an_outside_source() -> None:
    steps = {step.name: step for step in lower(flights(jobs__replay__outputs=["log://departures", "log://arrivals"]))}
    assert steps["weather"].needs == ()
    assert steps["weather"].sources == ("data/weather.csv.gz",)


def test_a_window_changes_its_feature_and_what_serves_it_by_declaration() -> None:
    after = flights(features__route_gain__windows=["6h", "24h"])
    assert changed(flights(), after) == {"route_gain"}, "what depends on it follows by its new version, not by its declaration"


def test_resources_checkpoints_and_limits_are_in_no_fingerprint() -> None:
    after = flights(
        jobs__train_delay__resources={"workers": 4},
        jobs__train_delay__checkpoint_every="5s",
        jobs__train_delay__max_time="2h",
        jobs__train_delay__max_restarts=9,
    )
    assert changed(flights(), after) == set()


def test_a_derived_column_does_not_bring_data_in_again() -> None:
    after = flights(datasets__arrivals__derive={"gain": "arr_delay - dep_delay + 0"})
    assert "arrivals" not in changed(flights(), after)
    assert {"route_gain", "carrier_gain", "tail_gain", "train_delay.inputs"} <= changed(flights(), after)


def test_a_parameter_changes_its_job_only() -> None:
    assert changed(flights(), flights(jobs__train_delay__params={"lr": 0.1})) == {"train_delay"}


def test_select_takes_targets_and_what_they_need_and_nothing_else() -> None:
    names = [step.name for step in select(lower(flights()), ["origin_weather"])]
    assert names == ["replay", "weather", "origin_weather"]


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="train_delay"):
        select(lower(flights()), ["train_dely"])


def test_a_command_names_its_scripts_as_code() -> None:
    steps = {step.name: step for step in lower(flights(jobs__extra={"command": "python replay.py --fast"}))}
    assert steps["extra"].entries == ("replay.py",)


def test_the_model_that_a_job_trains_is_named_by_the_model() -> None:
    steps = {step.name: step for step in lower(flights())}
    assert steps["train_delay"].spec["model"] == "delay"
