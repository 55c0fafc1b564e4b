"""Saving on spot over public traces, both readings of their values: our rule beside greedy and uniform progress. Deadlines missed: counted.

The traces lie beside the checkout (../shared/traces) or where BEDPLATE_TRACES says.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

from bedplate.cluster.spot import DeadlineJob, Rule, greedy, planned, rent, spot_rates, uniform_progress
from bench.table import Row

TRACES = Path(os.environ.get("BEDPLATE_TRACES", Path(__file__).parents[2] / "shared" / "traces")) / "spot" / "availability"
SPOT_PRICE = 0.33  # of on demand: about that of a V100 in these traces' regions
CHANGEOVER_S = 360.0
JOBS = ((48, 1.1), (48, 1.5), (20, 2.0))  # hours of work, and the time to the deadline as a multiple of them
WINDOWS = 24  # of each trace, evenly spread
HISTORY_TICKS = 3000


def rows() -> list[Row]:
    """Savings against on demand, in percent of its cost: means over traces, jobs and windows."""
    found = []
    files = sorted(TRACES.rglob("*.json"))
    if not files:
        raise SystemExit(f"no traces below {TRACES}: set BEDPLATE_TRACES")
    for reading, inverted in (("1 is available", False), ("0 is available", True)):
        savings: dict[str, list[float]] = {"planned": [], "greedy": [], "uniform": []}
        missed = 0
        for path in files:
            trace = json.loads(path.read_text())
            available = [bool(value) != inverted for value in trace["data"]]
            for hours, slack in JOBS:
                job = DeadlineJob(hours * 3600.0, hours * 3600.0 * slack, CHANGEOVER_S)
                missed += _play(job, available, float(trace["metadata"]["gap_seconds"]), savings)
        means = {name: 100 * statistics.mean(values) for name, values in savings.items()}
        count = len(savings["planned"])
        what = f"spot saving, {reading}, {count} windows"
        found += [
            Row(what, means["planned"], "%", "", means["uniform"], "uniform progress", 1.0, higher_is_better=True),
            Row(what, means["planned"], "%", "", means["greedy"], "greedy", 1.0, higher_is_better=True),
            Row(f"deadlines missed, {reading}", missed, "of 3 rules", limit=0),
        ]
    return found


def _play(job: DeadlineJob, available: list[bool], tick_s: float, savings: dict[str, list[float]]) -> int:
    ticks = int(job.deadline_s / tick_s) + 2
    last = len(available) - ticks
    missed = 0
    rules: dict[str, Callable[[int], Rule]] = {
        "planned": lambda start: planned(
            job, SPOT_PRICE, spot_rates(available[max(0, start - HISTORY_TICKS) : start + 1], tick_s), max(tick_s, 390.0)
        ),
        "greedy": lambda _: greedy,
        "uniform": lambda _: uniform_progress,
    }
    for start in range(0, last, max(1, last // WINDOWS)):
        for name, rule in rules.items():
            rented = rent(job, available[start : start + ticks], tick_s, rule(start))
            savings[name].append(1 - rented.cost(SPOT_PRICE) / job.work_s)
            missed += rented.finished_s == float("inf")
    return missed
