"""Diagnosing runs and step traces, from what is on disk to the files that are written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.csv
import pytest

from bedplate.core.errors import BedplateError, NotFound
from bedplate.flow.diagnosing import doctor, doctor_trace
from flow.opened_rows import write_timings
from flow.world import World
from train.step_traces import synthetic


def test_a_slow_loader_is_found_and_the_report_and_trace_are_written(world: World) -> None:
    world.drive("run", "fit")
    write_timings(world, "fit-1", ranks=2, input_s=0.008)
    found = doctor(world.workspace, "fit-1")
    assert found.findings[0].verdict == "input"
    assert found.findings[0].gain_share == pytest.approx(0.5, abs=0.02)
    report, trace = found.files
    assert report == world.workspace.state / "doctor" / "fit-1" / "report.html"
    assert "input: steps wait for their batches" in report.read_text()
    events = json.loads(trace.read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {0, 1}
    assert "attempt 1 starts" in {event["name"] for event in events}
    assert found.lines[0].startswith("1. input (would gain 0.2 s")
    assert found.to_json()["bottleneck"] == "input"
    json.dumps(found.to_json())


def test_a_straggler_is_found_in_the_timings_of_all_ranks(world: World) -> None:
    world.drive("run", "fit")
    write_timings(world, "fit-1", ranks=3, slow=2)
    (first, *_) = doctor(world.workspace, "fit").findings
    assert first.verdict == "straggler" and first.evidence.startswith("rank 2 works 13 ms a step, its peers 7 ms")


def test_an_earlier_run_says_what_is_usual(world: World) -> None:
    world.drive("run", "fit")
    write_timings(world, "fit-1", ranks=2, input_s=0.002)
    world.drive("run", "fit", force=("fit",))
    write_timings(world, "fit-2", ranks=2, input_s=0.006)
    (first, *_) = doctor(world.workspace, "fit-2").findings
    assert first.verdict == "input"
    assert first.gain_share == pytest.approx(4 / 14, abs=0.02), "2 ms of the 6 were there before"


def test_a_run_without_timed_steps_is_told_so(world: World, tmp_path: Path) -> None:
    world.drive("run", "make")
    found = doctor(world.workspace, "make-1", tmp_path / "out")
    assert found.findings == () and found.lines[0].startswith("no steps were timed")
    assert (tmp_path / "out" / "report.html").exists()
    assert found.to_json()["bottleneck"] is None
    with pytest.raises(NotFound):
        doctor(world.workspace, "never-1")


def test_a_step_trace_is_read_and_its_page_written(tmp_path: Path) -> None:
    table, _ = synthetic(2, 2, 4, 3, slow={3: 1.6})
    pyarrow.csv.write_csv(table, tmp_path / "steps.csv")
    told, lines = doctor_trace(tmp_path / "steps.csv")
    assert told["workers"][0]["name"] == "3"
    assert told["files"] == [str(tmp_path / "steps.doctor.html")]
    assert (tmp_path / "steps.doctor.html").read_text().startswith("<!doctype html>")
    assert lines[0].startswith("slowdown 1.")
    with pytest.raises(BedplateError, match="no such file"):
        doctor_trace(tmp_path / "nothing.csv")
