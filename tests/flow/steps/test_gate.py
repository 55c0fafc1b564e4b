"""The gate step: candidate and production on one pinned set, graded by the user's function; and what that function may return."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedplate.core.attempt import Attempt, read_attempt
from bedplate.core.errors import JobError
from bedplate.flow.opened import OpenProject
from bedplate.flow.steps.gate import work
from flow.world import said

pytestmark = pytest.mark.usefixtures("clean_imports")

GRADES = """
def bad_model(version, feed):
    return {"rmse": 2.0 + feed.rows("test") * 0}

def nothing(version, feed):
    return None

def text(version, feed):
    return {"rmse": "good"}

def undefined(version, feed):
    return {"rmse": float("nan")}
"""


def gate(served: tuple[Path, OpenProject], tmp_path: Path, entry: str = "", **changes: Any) -> Attempt:
    """The gate's attempt of the served project, to be done again in a folder of its own, with another `evaluate` if one is named."""
    _, project = served
    done = read_attempt(project._workspace.attempt_folder(project.runs("amount")[0].id, 1))
    spec = {**done.spec, **changes}
    code = done.code
    if entry:
        (tmp_path / "grades.py").write_text(GRADES)
        spec["evaluate"], code = f"grades.py:{entry}", str(tmp_path)
    own = Path(done.state) / "runs" / f"{tmp_path.name}-1" / "1"
    own.mkdir(parents=True)
    return replace(done, folder=str(own), spec=spec, code=code)


def test_the_gate_of_the_project_promoted_its_first_version(served: tuple[Path, OpenProject]) -> None:
    _, project = served
    assert project.version("amount@production").number == 1
    evaluation = project._workspace.records.evaluations["amount"]
    assert evaluation["production"] is None and evaluation["decision"]["promoted"]
    assert set(evaluation["metrics"]) == {"rmse", "mean_rmse"}
    assert (project._workspace.state / evaluation["card"]).read_text().startswith("#")


def test_production_is_graded_on_the_same_pinned_set(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    made = gate(served, tmp_path, promote={"to": "production", "when": ["rmse < production.rmse"]})
    again = replace(made, inputs={**made.inputs, "production": made.inputs["amount"]})
    assert work(again) == 0, "a gate that holds has done its work"
    (evaluation,) = said(again, "evaluation")
    assert evaluation["production"] == evaluation["candidate"] == "amount@1"
    assert evaluation["production_metrics"] == evaluation["metrics"], "the same version, the same rows"
    assert not evaluation["decision"]["promoted"]
    assert evaluation["pinned_set"] == "fit.inputs@1"
    assert json.loads((again.out / "evaluation.json").read_text())["decision"] == evaluation["decision"]
    assert (again.out / "card.md").is_file()


def test_the_users_function_decides_what_counts(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    made = gate(served, tmp_path, "bad_model", promote={"to": "production", "when": ["rmse <= 1"]})
    assert work(made) == 0
    assert said(made, "metric") == [{"step": 0, "values": {"rmse": 2.0}}]
    assert not said(made, "evaluation")[0]["decision"]["promoted"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [("nothing", "must return a mapping of metric names"), ("text", "'rmse' is not a finite number"), ("undefined", "not a finite number")],
)
def test_a_grade_that_is_none_fails_the_gate(served: tuple[Path, OpenProject], tmp_path: Path, entry: str, message: str) -> None:
    made = gate(served, tmp_path, entry)
    with pytest.raises(JobError, match=message):
        work(made)
    assert said(made, "evaluation") == []
