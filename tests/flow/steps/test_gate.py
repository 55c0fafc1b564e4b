"""The gate step: candidate and production on one pinned set, graded by the user's function; and what that function may return."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedplate.core.attempt import Attempt, read_attempt
from bedplate.core.errors import CheckpointError, JobError, SpecError
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

def sliced(version, feed):
    import numpy as np

    test = feed.columns("test")
    shops = np.array(feed.dictionary("shop"))[test["shop"]]
    return {"rows": {"rmse": test["amount"] - test["amount"].mean(), "shop": shops}}

SEEN = []

def quick(version, rows):
    SEEN.extend(rows)
    return [0.0 for _ in rows]
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


SLICED = ["max(slice.shop.rmse) <= 1e9", "rmse <= production.rmse", "gap(slice.shop.rmse) <= gap(production.slice.shop.rmse)"]


def test_slices_and_rows_are_judged_and_recorded(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    rules = [*SLICED, "rmse < production.rmse with 95% confidence"]
    made = gate(served, tmp_path, "sliced", promote={"to": "production", "when": rules})
    assert work(replace(made, inputs={**made.inputs, "production": made.inputs["amount"]})) == 0
    (evaluation,) = said(made, "evaluation")
    shops = evaluation["slices"]["shop"]
    assert set(shops) == {"s0", "s1", "s2", "s3", "s4"} == set(evaluation["production_slices"]["shop"])
    assert sum(shop["rows"] for shop in shops.values()) == evaluation["rows"]
    assert evaluation["rules"] == rules
    *plain, sure = evaluation["decision"]["checks"]
    assert all(check["holds"] for check in plain)
    assert not sure["holds"] and sure["interval"]["low"] == sure["interval"]["high"] == 0.0
    assert "the difference lies in [0, 0] with 95% confidence" in evaluation["decision"]["why"]


def test_latency_and_size_are_measured_by_the_gate_on_rows_as_requests_have_them(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    promote = {"to": "production", "when": ["latency_p99_s <= 5", "size_bytes <= 1e9", "size_bytes > 100"]}
    made = gate(served, tmp_path, "bad_model", promote=promote, predict="grades.py:quick")
    assert work(made) == 0
    (evaluation,) = said(made, "evaluation")
    assert set(evaluation["metrics"]) == {"rmse", "latency_p99_s", "size_bytes"}
    assert evaluation["decision"]["promoted"]
    import grades

    assert {"size", "shop"} <= set(grades.SEEN[0]) and isinstance(grades.SEEN[0]["shop"], str)


def test_the_training_data_is_compared_with_productions(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    rules = {"to": "production", "when": ["drift.psi(size) <= 0.1", "drift.ks(shop) < 0.01"]}
    made = gate(served, tmp_path, promote=rules)
    both = {**made.inputs, "production": made.inputs["amount"], "production.inputs": made.inputs["fit.inputs"]}
    assert work(replace(made, inputs=both)) == 0
    (evaluation,) = said(made, "evaluation")
    assert evaluation["drift"] == {"psi(size)": 0.0, "ks(shop)": 0.0} and evaluation["decision"]["promoted"]
    wrong = replace(made, inputs=both, spec={**made.spec, "promote": {"to": "production", "when": ["drift.psi(sise) < 1"]}})
    with pytest.raises(SpecError, match=r"no such column \(got 'sise'\). Fix: did you mean 'size'"):
        work(wrong)
    with pytest.raises(SpecError, match="production has no training data to compare with"):
        work(replace(made, inputs={**made.inputs, "production": made.inputs["amount"]}))


def test_a_candidate_whose_bytes_changed_is_not_graded(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    made = gate(served, tmp_path)
    copy = tmp_path / "model"
    shutil.copytree(made.inputs["amount"]["path"], copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="a model's file is missing or damaged"):
        work(replace(made, inputs={**made.inputs, "amount": {**made.inputs["amount"], "path": str(copy)}}))


def test_approvals_leave_the_decision_pending(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    made = gate(served, tmp_path, "bad_model", promote={"to": "production", "when": ["rmse <= 3"], "approvals": ["ann", "bob"]})
    assert work(made) == 0
    decision = said(made, "evaluation")[0]["decision"]
    assert decision["pending"] == ["ann", "bob"] and not decision["promoted"]
    assert decision["why"] == "waits for ann and bob to approve: rmse <= 3 holds (2 against 3)"
