"""JAX as a plain command: two processes find each other by what the shim puts into their environment."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "jax_two_processes"

if importlib.util.find_spec("jax") is None:
    pytest.skip("JAX is missing: pip install 'bedplate[jax]'", allow_module_level=True)


def test_two_processes_fit_one_line(tmp_path: Path) -> None:
    project = shutil.copytree(EXAMPLE, tmp_path / "project")
    command = [sys.executable, "-m", "bedplate.cli.main", "run", "fit", "-C", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads((project / "line.json").read_text())
    assert line["devices"] == 2
    assert line["slope"] == pytest.approx(3, abs=1e-3)
    assert line["offset"] == pytest.approx(2, abs=1e-3)
    logs = sorted(project.glob(".bedplate/runs/fit-1/*/logs/rank-*.log"))
    assert ["process 0 of 2" in logs[0].read_text(), "process 1 of 2" in logs[1].read_text()] == [True, True]
