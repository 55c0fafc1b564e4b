"""`bedplate doctor`: what holds a run back, or a step trace."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet

from cli.kit import as_json, bedplate
from train.step_traces import synthetic


def test_a_real_run_of_two_ranks_is_examined(whole: Path) -> None:
    told = as_json(whole, "doctor", "fit-1", "--out", str(whole / "examined"))
    assert told["run"] == "fit-1"
    spent = told["goodput"]
    assert abs(sum(spent["seconds"].values()) - spent["wall_s"]) <= 0.01 * spent["wall_s"]
    assert spent["steps"] > 0
    assert (whole / "examined" / "report.html").exists() and (whole / "examined" / "trace.json").exists()
    said = bedplate(whole, "doctor", "fit-1").stdout
    assert "was compute that counts" in said and "report.html" in said


def test_explain_shows_the_same_ledger(whole: Path) -> None:
    assert as_json(whole, "explain", "fit-1")["goodput"]["steps"] > 0
    assert "was compute that counts" in bedplate(whole, "explain", "fit-1").stdout


def test_a_step_trace_needs_no_project(tmp_path: Path) -> None:
    table, _ = synthetic(2, 2, 4, 3, slow={1: 1.5})
    pyarrow.parquet.write_table(table, tmp_path / "steps.parquet")
    said = bedplate(tmp_path, "doctor", "--trace", "steps.parquet").stdout
    assert said.startswith("slowdown 1.") and "worker 1: alone it slows the run" in said
    assert as_json(tmp_path, "doctor", "--trace", "steps.parquet")["stages"][0]["name"] == "1"


def test_without_a_run_the_machine_is_examined(hello: Path) -> None:
    assert as_json(hello, "doctor")["machine"]["cores"] >= 1
