"""Tracking: what a command finds in its environment, and what is reported when it has ended."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx

from bedplate.core.clock import SystemClock
from bedplate.core.journal import JournalWriter
from bedplate.data.streams.log import Log
from bedplate.flow.tracking import tracking
from flow.world import attempt, said

SPEC = {"params": {"lr": 0.1}, "outputs": ["data/rows.csv", "log://visits", "missing.csv"]}


def test_the_environment_leads_to_inputs_outputs_parameters_and_mlflow(tmp_path: Path) -> None:
    made = attempt(tmp_path, "count", "job", SPEC, inputs={"rows": {"name": "rows", "path": "/somewhere"}})
    with tracking(made, JournalWriter(made.path, "shim")) as environment:
        assert json.loads(environment["BEDPLATE_PARAMS"]) == {"lr": 0.1}
        assert json.loads(environment["BEDPLATE_INPUTS"]) == {"rows": "/somewhere"}
        assert (environment["BEDPLATE_RUN"], environment["BEDPLATE_OUT"]) == ("count-1", str(made.out))
        user, password = environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"]
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        answer = httpx.post(
            environment["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/log-metric",
            json={"run_id": environment["MLFLOW_RUN_ID"], "key": "loss", "value": 2.0, "step": 3, "timestamp": 0},
            headers={"Authorization": f"Basic {token}"},
        )
        assert answer.status_code == 200
    assert said(made, "metric") == [{"step": 3, "values": {"loss": 2.0}}]


def test_declared_outputs_that_are_there_are_reported_at_the_end(tmp_path: Path) -> None:
    made = attempt(tmp_path, "count", "job", SPEC)
    with tracking(made, JournalWriter(made.path, "shim")):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "rows.csv").write_text("id\n1\n")
        Log(Path(made.state) / "log" / "visits", SystemClock()).append([b"1", b"2"], producer="p", sequence=0)
        assert said(made, "output") == []
    reported = {body["name"]: (body["kind"], body["meta"].get("rows", body["meta"].get("bytes"))) for body in said(made, "output")}
    assert reported == {"data/rows.csv": ("file", 5), "log://visits": ("stream", 2)}, "what is missing is left out"


def test_artifacts_are_one_output_of_the_step(tmp_path: Path) -> None:
    made = attempt(tmp_path, "count", "job", {**SPEC, "outputs": []})
    with tracking(made, JournalWriter(made.path, "shim")) as environment:
        (Path(environment["BEDPLATE_OUT"]) / "artifacts" / "plot.png").write_bytes(b"png")
    (output,) = said(made, "output")
    assert (output["name"], output["kind"], output["meta"]) == ("count.artifacts", "files", {"files": 1, "bytes": 3})


def test_an_output_that_leads_outside_is_told_and_the_others_are_still_reported(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1")
    made = attempt(tmp_path, "count", "job", {"params": {}, "outputs": ["../outside.csv", "rows.csv"]})
    with tracking(made, JournalWriter(made.path, "shim")):
        pass
    assert [body["name"] for body in said(made, "output")] == ["rows.csv"]
    assert "leads outside" in said(made, "failure")[0]["message"]
