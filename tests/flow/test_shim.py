"""The shim's entry, as a process: a command with its tracking, a worker without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt
from flow.world import attempt, read_journal, said


def shim(made: Attempt) -> None:
    write_json(made.path / ATTEMPT_FILE, made.to_json())
    subprocess.run([sys.executable, "-m", "bedplate.flow.shim", made.folder], check=True, timeout=60)


def test_a_command_is_run_tracked_and_its_output_reported_before_the_end(tmp_path: Path) -> None:
    spec = {"command": "true", "params": {}, "outputs": ["uri.txt"]}
    made = attempt(tmp_path, "count", "job", spec, argv=("/bin/sh", "-c", "echo $MLFLOW_TRACKING_URI $RANK > uri.txt"))
    shim(made)
    assert (tmp_path / "uri.txt").read_text().startswith("http://127.0.0.1:")
    kinds = [entry["kind"] for entry in read_journal(made.path)]
    assert kinds.index("output") < kinds.index("ended") == len(kinds) - 1
    assert said(made, "ended")[0]["status"] == "succeeded"


def test_a_worker_is_run_without_tracking(tmp_path: Path) -> None:
    made = attempt(tmp_path, "count", "job", {"function": "x.py:x"}, argv=("/bin/sh", "-c", "env > environment.txt"))
    shim(made)
    assert "MLFLOW_TRACKING_URI" not in (tmp_path / "environment.txt").read_text()
    assert not (made.out / "artifacts").exists()


def test_an_attempt_is_run_once(tmp_path: Path) -> None:
    spec = {"command": "true", "params": {}, "outputs": []}
    made = attempt(tmp_path, "count", "job", spec, argv=("/bin/sh", "-c", "echo once >> count.txt"))
    shim(made)
    shim(made)
    assert (tmp_path / "count.txt").read_text() == "once\n"
    assert len(said(made, "ended")) == 1
