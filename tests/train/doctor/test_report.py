"""What the doctor shows: words for the terminal, a page for the eye."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from bedplate.train.doctor.measured import Profile
from bedplate.train.doctor.report import finding_lines, run_page, trace_lines, trace_page
from bedplate.train.doctor.rules import VERDICTS, Finding, diagnose
from bedplate.train.doctor.trace import trace_of
from bedplate.train.doctor.what_if import Blame, WhatIf, what_if
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


SLOW_INPUT = Finding("input", "a step waits <10 ms>", 125.0, 0.25, "read ahead & again")
REST = Finding("compute", "75% of a step", 0.0, 0.0, "lower precision")
TRACED = WhatIf(
    observed_s=11.0, played_s=10.0, ideal_s=8.0, steps=4,
    workers=(Blame("w3", 1.2, 0.8, 1.5), Blame("w1", 1.0004, 0.0, 0.0)),
    stages=(Blame("1", 1.1, 0.4, 0.9),),
    parts=(Blame("compute", 1.25, 1.0, 2.0), Blame("synchronization", 1.001, 0.004, 0.1), Blame("sends between stages", 1.0, 0.0, 0.0)),
)  # fmt: skip


def test_findings_are_numbered_with_their_gain_in_time_and_share() -> None:
    assert finding_lines([SLOW_INPUT, REST]) == [
        f"1. input (would gain 2 min 5 s, 25% of the step): {VERDICTS['input']}",
        "   evidence: a step waits <10 ms>",
        "   next: read ahead & again",
        f"2. compute (the rest): {VERDICTS['compute']}",
        "   evidence: 75% of a step",
        "   next: lower precision",
    ]
    assert finding_lines([]) == []


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_is_written_as_words(verdict: str) -> None:
    (headline, *_) = finding_lines([replace(SLOW_INPUT, verdict=verdict)])
    assert "_" not in headline and headline.endswith(VERDICTS[verdict])


def test_a_trace_in_words_leaves_out_those_that_cost_nothing() -> None:
    assert trace_lines(TRACED) == [
        "slowdown 1.250: 4 steps took 10 s where 8 s were ideal",
        "as observed they took 11 s, +10.0% against what their dependencies explain",
        "part compute: alone it slows the run 1.250 x, 100% of what is lost; made ideal it gains 2 s",
        "part synchronization: alone it slows the run 1.001 x, 0% of what is lost; made ideal it gains 0.1 s",
        "stage 1: alone it slows the run 1.100 x, 40% of what is lost; made ideal it gains 0.9 s",
        "worker w3: alone it slows the run 1.200 x, 80% of what is lost; made ideal it gains 1.5 s",
    ]


def test_of_a_thousand_workers_five_are_told_and_twenty_tabled() -> None:
    found = replace(TRACED, workers=tuple(Blame(f"w{each}", 2.0 - each / 1000, 0.1, 0.1) for each in range(1000)))
    assert sum(line.startswith("worker ") for line in trace_lines(found)) == 5
    assert trace_page("t", found).count("<td>w") == 20
    assert replace(found, ideal_s=0.0).slowdown == 1.0, "a trace without any time"


def test_the_page_of_a_run_leads_with_the_first_finding_and_escapes_what_it_quotes() -> None:
    run = simulate(Scenario(3, data=2)).measured()
    text = run_page("fit <1>", run, [SLOW_INPUT, REST], LEDGER)
    assert f"<b>input: {VERDICTS['input']}; its absence would gain 2 min 5 s (25% of the step)</b>" in text
    assert "a step waits &lt;10 ms&gt;" in text and "read ahead &amp; again" in text and "fit &lt;1&gt;" in text
    assert '<td class="number">2 min 5 s (25%)</td>' in text and "<td>-</td>" in text
    healthy = run_page("fit-1", run, [REST], LEDGER)
    assert f"<b>compute: {VERDICTS['compute']}</b>" in healthy


def test_the_ledger_of_a_run_has_every_bucket_with_its_seconds_and_share() -> None:
    text = run_page("fit-3", None, (), LEDGER)
    assert "Where 10 s went" in text
    for name, seconds in LEDGER.seconds.items():
        row = f'<td>{name.replace("_", " ")}</td><td class="number">{seconds:.4g}</td><td class="number">{seconds / 10:.1%}</td>'
        assert row in text
    assert sum(LEDGER.seconds.values()) == pytest.approx(10.0)


def test_long_runs_of_many_ranks_are_drawn_with_bars_that_one_can_see() -> None:
    run = simulate(Scenario(3, data=80, steps=300)).measured()
    assert len(run.steps) > 60
    _, over_time, by_rank, *_ = run_page("fit-3", run, [REST], LEDGER).split("<svg")
    assert over_time.count(": compute ") == 60
    assert by_rank.count(": compute ") == 64


def test_means_over_time_keep_the_time_of_all_steps() -> None:
    run = simulate(Scenario(3, data=2, steps=300)).measured()
    _, over_time, *_ = run_page("fit-3", run, [REST], LEDGER).split("<svg")
    drawn = [float(part.split(" ms a step")[0]) for part in over_time.split(": compute ")[1:]]
    assert np.mean(drawn) == pytest.approx(1e3 * run.mean(run.of("compute").mean(axis=1)), rel=0.02)
