"""The flights example whole, from raw data to a served model, and what its parts take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.table import Row


def rows(project: Path) -> list[Row]:
    """Bring a copy of the example up from nothing; `project` is left up."""
    command = [sys.executable, "-m", "bedplate.cli.main", "up", "-C", str(project), "--json"]
    started_s = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole = time.perf_counter() - started_s
    runs = json.loads(done.stdout)["runs"]
    gate = next(run for run in runs if run["kind"] == "gate")["metrics"]
    parts = [Row(f"  {run['step']}", run["duration_s"], "s") for run in runs if run["duration_s"]]
    return [
        Row("flights: raw data to a served model", whole, "s", limit=120),
        *parts,
        Row("flights: test RMSE", gate["rmse"], "min", peer=gate["baseline_rmse"], peer_name="dep_delay + mean gain", limit=0.95),
        Row("flights: RMSE of the plain mean", gate["mean_rmse"], "min"),
    ]


def copy_of(example: Path, target: Path) -> Path:
    """The example with its raw data, without any state."""
    shutil.copytree(example, target, ignore=shutil.ignore_patterns(".bedplate", "__pycache__", "weather.csv.gz"))
    return target


def down(project: Path) -> None:
    """Stop its endpoint."""
    subprocess.run([sys.executable, "-m", "bedplate.cli.main", "down", "-C", str(project)], check=True, capture_output=True)
