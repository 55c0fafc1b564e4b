"""The doctor: planted bottlenecks in simulated and in real runs, healthy runs, what-if on a large step trace, and what the timers cost."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bedplate.train.counters import HostCounters, RunDelay
from bedplate.train.doctor.measured import Measured, Reference
from bedplate.train.doctor.rules import diagnose
from bedplate.train.doctor.steps import work_of
from bedplate.train.doctor.trace import trace_of
from bedplate.train.doctor.what_if import what_if
from bedplate.train.timers import Timers
from bench.table import Row, median_s

TESTS = Path(__file__).parents[1] / "tests"
VARIATIONS = 20
CLEAN = 100
REAL_VARIATIONS = 20
REAL_STEPS = 40
COMPUTE_S = (0.03, 0.05)
LEAST = 0.15  # of the computation: from 10% of the whole step, which has communication and the cause itself in it besides


def rows() -> list[Row]:
    """All of it; the simulator and the planted runs are those of the tests."""
    sys.path.insert(0, str(TESTS))
    return [*_simulated(), *_real(), _what_if(), *_timers()]


def _simulated() -> list[Row]:
    from train.timelines import PLANTS, clean, simulate

    named, errors = 0, []
    for verdict, plant in PLANTS.items():
        for seed in range(VARIATIONS):
            planted, healthy = (simulate(scenario) for scenario in plant(seed))
            run = planted.measured()
            findings = diagnose(run)
            named += findings[0].verdict == verdict
            errors.append(_error(run, findings, verdict, planted.step_s - healthy.step_s))
    alarms = sum(diagnose(simulate(clean(10_000 + seed)).measured())[0].verdict != "compute" for seed in range(CLEAN))
    total = VARIATIONS * len(PLANTS)
    return [
        Row(f"doctor: planted in simulated runs and named first, of {total}", named, "runs", limit=total, higher_is_better=True),
        Row(
            "doctor: worst error of the estimated gain, simulated",
            max(errors),
            "of it",
            f"median {statistics.median(errors):.3f}",
            limit=0.3,
        ),
        Row(f"doctor: false alarms in {CLEAN} healthy simulated runs", alarms, "runs", limit=CLEAN / 50),
    ]


def _real() -> list[Row]:
    from train.planted import Planter

    with tempfile.TemporaryDirectory() as folder:
        planter = Planter(Path(folder))
        try:
            return _planted(planter)
        finally:
            planter.close()


def _planted(planter: Any) -> list[Row]:
    """Real ranks. What the machine itself keeps them from (host contention, on a busy one) is a true finding: it is left aside.

    Each planted run has a healthy one beside it, on a machine that is never the same. As in a project with an earlier healthy run, the
    doctor knows from it what communication is usual, except where the link itself is throttled.
    """
    found: list[Row] = []
    alarms, healthy = 0, 0
    for verdict in ("input", "straggler", "communication", "stage_imbalance", "checkpoint_stalls"):
        named, errors = 0, []
        for number in range(REAL_VARIATIONS):
            planted, cured = _plant(verdict, COMPUTE_S[number % 2], LEAST + (0.9 - LEAST) * number / REAL_VARIATIONS)
            run, without = (planter.run(steps=REAL_STEPS, **params) for params in (planted, cured))
            if verdict == "stage_imbalance":
                usual = Reference(communication_s=without.mean(work_of(without).link_s), source="in the run without")
                run, without = (replace(each, reference=usual) for each in (run, without))
            findings = _first(run)
            named += findings[0].verdict == verdict
            alarms, healthy = alarms + (_first(without)[0].verdict != "compute"), healthy + 1
            errors.append(_error(run, findings, verdict, run.mean(run.step_s) - without.mean(without.step_s)))
        spread = f"{min(errors):.2f} to {max(errors):.2f}"
        what = f"doctor: {verdict} planted in real runs and named first, of {REAL_VARIATIONS}"
        found.append(Row(what, named, "runs", limit=REAL_VARIATIONS, higher_is_better=True))
        what = f"doctor: error of the estimated gain, {verdict} in real runs"
        found.append(Row(what, statistics.median(errors), "of it", spread, limit=0.3))
    return [*found, Row(f"doctor: false alarms in {healthy} healthy real runs", alarms, "runs", limit=healthy / 50)]


def _plant(verdict: str, compute_s: float, share: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run in which `verdict` costs `share` of the computation of a step, and the same run without."""
    cost_s, healthy = share * compute_s, {"compute_s": compute_s}
    match verdict:
        case "input":
            return {**healthy, "loader_s": cost_s}, healthy
        case "straggler":
            return {**healthy, "slow_rank": 1, "slow_s": cost_s}, healthy
        case "communication":
            return {**healthy, "link_s": cost_s}, healthy
        case "checkpoint_stalls":  # a checkpoint every five steps or so
            often = {**healthy, "stall_s": 5 * cost_s, "checkpoint_every_s": 5 * compute_s}
            return {**often, "world_size": 1}, {**healthy, "world_size": 1}
        case _:  # both stages have two blocks; the last has more besides, which even stages would share
            block_s, count = compute_s / 16, 16  # with 8 micro-batches two stages are empty for a ninth of a step: no healthy run
            more_s = 7 * share * block_s
            cut = {"micro_batches": count}
            return {**cut, "block_s": block_s, "last_s": more_s}, {**cut, "block_s": block_s + more_s / 4}


def _first(run: Measured) -> list[Any]:
    return [finding for finding in diagnose(run) if finding.verdict != "host_contention"]


def _error(run: Measured, findings: Sequence[Any], verdict: str, gained_s: float) -> float:
    """How far the estimated gain is from the one that was measured when the cause was removed; 1 where it was not found."""
    share = next((finding.gain_share for finding in findings if finding.verdict == verdict), 0.0)
    return abs(share * run.mean(run.step_s) / gained_s - 1) if gained_s > 0 else 1.0


def _what_if() -> Row:
    from train.step_traces import synthetic

    table, _ = synthetic(10, 100, 8, 100, slow={333: 1.3})
    taken_s, spread = median_s(lambda: what_if(trace_of(table)), 3)
    return Row(f"doctor: what-if on 1,000 workers x 100 steps, {table.num_rows:,} operations", taken_s, "s", spread, limit=10)


def _timers() -> list[Row]:
    """What the always-on timers of one step cost, with every counter read and every row made."""
    timers = Timers(counters=HostCounters(), delay=RunDelay())
    steps = 20_000
    times = []
    for _ in range(5):
        started_s = time.perf_counter()
        for step in range(steps):
            for name in ("input", "compute", "optimizer", "checkpoint", "communication"):
                with timers.span(name):
                    pass
            timers.move("compute", "communication", 0.0)
            timers.end_step(step)
            timers.drain()
        times.append((time.perf_counter() - started_s) / steps * 1e6)
    spread = f"{min(times):.3g} to {max(times):.3g}"
    return [Row("doctor: the always-on timers of a step, measured alone", statistics.median(times), "us", spread, limit=500)]
