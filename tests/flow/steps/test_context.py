"""The context of a step: its inputs, its progress, its outputs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bedplate.core.versions import Version
from bedplate.flow.steps import context
from bedplate.flow.steps.context import StepContext
from flow.world import attempt, read_journal, said

pytestmark = pytest.mark.usefixtures("clean_imports")


def test_inputs_are_versions_with_a_path(tmp_path: Path) -> None:
    version = Version("rows", 3, "table", "d", "lake/rows", "rows-1", 1.0, {"rows": 5})
    made = attempt(tmp_path, "sums", "feature", {}, inputs={"rows": {**version.to_json(), "path": "/somewhere/rows"}})
    step = StepContext(made)
    assert step.version("rows") == version
    assert step.path("rows") == Path("/somewhere/rows")


def test_the_recorded_code_comes_first_on_the_import_path(tmp_path: Path) -> None:
    StepContext(attempt(tmp_path, "sums", "feature", {}, code=str(tmp_path / "snapshot")))
    assert sys.path[0] == str(tmp_path / "snapshot")


def test_progress_is_told_at_most_four_times_a_second_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(context.time, "monotonic", lambda: now_s[0])
    made = attempt(tmp_path, "rows", "ingest", {})
    tell = StepContext(made).progress("rows")
    for done in range(1, 101):
        now_s[0] += 0.01
        tell(done, 100)
    told = [body["done"] for body in said(made, "progress")]
    assert told[0] == 1 and told[-1] == 100
    assert len(told) in (5, 6), "one second, and the end"
    assert said(made, "progress")[0] == {"done": 1, "total": 100, "unit": "rows", "note": ""}
    assert time.monotonic() == now_s[0]


def test_outputs_lie_below_the_state_and_declared_files_below_the_project(tmp_path: Path) -> None:
    made = attempt(tmp_path, "rows", "ingest", {})
    step = StepContext(made, "rank-0")
    step.output("rows", "table", "d1", step.state / "lake" / "rows", rows=3)
    step.output("out.csv", "file", "d2", tmp_path / "out.csv")
    assert [(body["location"], body["meta"]) for body in said(made, "output")] == [("lake/rows", {"rows": 3}), ("out.csv", {})]
    assert (made.path / "journal" / "rank-0.jsonl").is_file() and len(read_journal(made.path)) == 2
    with pytest.raises(ValueError, match="is not in the subpath"):
        step.output("out.csv", "table", "d", Path("/elsewhere"))


def test_streams_are_those_of_the_project(tmp_path: Path) -> None:
    step = StepContext(attempt(tmp_path, "rows", "ingest", {}))
    step.log("visits").append([b"1"], producer="p", sequence=0)
    assert (tmp_path / ".bedplate" / "log" / "visits").is_dir()


def test_a_training_worker_does_not_wait_for_pydantic(tmp_path: Path) -> None:
    code = "import sys, bedplate.flow.steps.context, bedplate.flow.steps.job, bedplate.data.feed; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
