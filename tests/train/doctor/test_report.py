"""What the doctor shows: words for the terminal, a page for the eye."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from bedplate.train.doctor.measured import Profile
from bedplate.train.doctor.report import finding_lines, run_page, trace_lines, trace_page
from bedplate.train.doctor.rules import diagnose
from bedplate.train.doctor.trace import trace_of
from bedplate.train.doctor.what_if import what_if
from bedplate.train.goodput import AttemptTimes, Row, fold
from train.step_traces import synthetic
from train.timelines import Scenario, simulate

LEDGER = fold(0.0, 10.0, [AttemptTimes(1.0, 9.0, False, {"rank-0": [Row(2.0, 8.0, 60, 60, {"compute": 5.0, "input": 1.0})]})])


def charts(text: str) -> int:
    count = 0
    for part in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + part[: part.index("</svg>") + 6])
        count += 1
    return count


def test_the_first_finding_comes_with_evidence_gain_and_the_next_experiment() -> None:
    run = simulate(Scenario(3, data=4, loader_s=0.03)).measured()
    lines = finding_lines(diagnose(run))
    assert lines[0].startswith("1. input (would gain ") and "of the step): steps wait for their batches" in lines[0]
    assert lines[1].startswith("   evidence: a step waits 3") and lines[2].startswith("   next: ")
    assert lines[3].startswith("2. compute (the rest)")


def test_a_healthy_run_is_said_to_be() -> None:
    assert "(healthy)" in finding_lines(diagnose(simulate(Scenario(3)).measured()))[0]


def test_the_page_of_a_run_has_its_findings_charts_and_ledger() -> None:
    run = replace(
        simulate(Scenario(3, data=4, slow={1: 1.5})).measured(), profile=Profile(120, 5e-6, 0.04, cost_s=2.5, steps=10, top=(("mm", 0.03),))
    )
    text = run_page("fit-3", run, diagnose(run), LEDGER)
    assert "straggler: one rank is slower" in text
    assert charts(text) == 4
    assert "10 steps of rank 0 were profiled; that cost the run 2.5 s." in text
    assert "input wait" in text and "ms a step" in text


def test_a_run_without_timed_steps_still_has_its_ledger() -> None:
    text = run_page("job-1", None, (), LEDGER)
    assert "no steps that were timed" in text and charts(text) == 1


def test_a_traces_worst_worker_and_stage_are_named() -> None:
    found = what_if(trace_of(synthetic(4, 2, 8, 3, jitter=0.01, slow={5: 1.5})[0]))
    lines = trace_lines(found)
    assert lines[0].startswith("slowdown 1.") and "+0.0%" in lines[1]
    assert any(line.startswith("worker 5: alone it slows the run 1.") for line in lines)
    assert any(line.startswith("stage 1: ") for line in lines)
    text = trace_page("trace.parquet", found)
    assert charts(text) == 3 and "trace.parquet" in text
