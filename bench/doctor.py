"""The doctor: planted bottlenecks in simulated and in real runs, healthy runs, what-if on a large step trace, and what the timers cost."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bedplate.train.counters import HostCounters, RunDelay
from bedplate.train.doctor.measured import Measured
from bedplate.train.doctor.rules import diagnose
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
    """Real ranks. What the machine itself keeps them from (host contention, on a busy one) is a true finding: it is left aside."""
    found: list[Row] = []
    alarms, healthy = 0, 0
    for verdict in ("input", "straggler", "communication"):
        named, errors = 0, []
        for number in range(REAL_VARIATIONS):
            compute_s = COMPUTE_S[number % 2]
            cost_s = compute_s * (0.15 + 0.75 * number / REAL_VARIATIONS)
            run = planter.run(compute_s=compute_s, steps=REAL_STEPS, **_plant(verdict, cost_s))
            without = planter.run(compute_s=compute_s, steps=REAL_STEPS)  # beside it, on a machine that is never the same
            findings = _first(run)
            named += findings[0].verdict == verdict
            alarms, healthy = alarms + (_first(without)[0].verdict != "compute"), healthy + 1
            errors.append(_error(run, findings, verdict, statistics.median(run.step_s) - statistics.median(without.step_s)))
        spread = f"{min(errors):.2f} to {max(errors):.2f}"
        found.append(Row(f"doctor: {verdict} planted in real runs and named first, of {REAL_VARIATIONS}", named, "runs"))
        found.append(Row(f"doctor: error of the estimated gain, {verdict} in real runs", statistics.median(errors), "of it", spread))
    return [*found, Row(f"doctor: false alarms in {healthy} healthy real runs", alarms, "runs")]


def _plant(verdict: str, cost_s: float) -> dict[str, Any]:
    return {
        "input": {"loader_s": cost_s},
        "straggler": {"slow_rank": 1, "slow_s": cost_s},
        "communication": {"link_s": cost_s},
    }[verdict]


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
