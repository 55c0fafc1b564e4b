"""How often a job with `checkpoint: auto` should write one: from the failures and stalls that the ledger has seen.

Does not know: the formula (`train.checkpoints.interval`), or what a run measures later, by which it corrects itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from bedplate.core.clock import duration_s
from bedplate.core.plan import PlannedStep
from bedplate.core.record import AttemptRecord, Records, RunRecord
from bedplate.core.spec import Job
from bedplate.train.checkpoints.interval import Rates, rates, reason

LOSING = ("worker_lost", "node_lost", "hang", "preempted")  # failures after which work is done again from a checkpoint
WORKING = ("job", "train")


def rates_of(records: Records, step: str, now_s: float) -> Rates:
    """What the ledger knows: failures of all runs of jobs by their worker seconds, stalls of the newest checkpoints of this step."""
    runs = [run for run in records.runs.values() if run.kind in WORKING]
    attempts = [(run, attempt) for run in runs for attempt in run.attempts]
    observed_s = sum(_workers(run) * ((attempt.ended_at_s or now_s) - attempt.started_at_s) for run, attempt in attempts)
    newest = [run.state.checkpoint for run in runs if run.step == step and run.state.checkpoint is not None]
    stalls_s = [float(each["stall_s"]) for each in newest if "stall_s" in each]
    return rates(sum(_failures(attempt) for _, attempt in attempts), max(observed_s, 0.0), stalls_s)


def explained(planned: Iterable[PlannedStep], known: Mapping[str, Rates]) -> tuple[PlannedStep, ...]:
    """The steps, where one that will run chooses its interval with the reason said."""
    return tuple(_explained(each, known) for each in planned)


def checkpoint_settings(job: Job, known: Rates | None, workers: int) -> dict[str, Any]:
    """What a worker is told of its checkpoints; times in seconds."""
    declared = job.checkpoint
    settings: dict[str, Any] = {"tiers": list(declared.tiers), "keep": declared.keep.model_dump(exclude_none=True)}
    if known is None:
        return {**settings, "every_s": duration_s(declared.every)}
    return {**settings, "every_s": "auto", "mtbf_s": known.mtbf_s / workers, "stall_s": known.stall_s}


def _explained(planned: PlannedStep, known: Mapping[str, Rates]) -> PlannedStep:
    found = known.get(planned.step.name)
    if found is None or planned.verdict == "fresh" or planned.placement is None:
        return planned
    return replace(planned, why=f"{planned.why}; {reason(found, planned.placement.world_size)}")


def _workers(run: RunRecord) -> int:
    return int(run.made["placement"]["world_size"])


def _failures(attempt: AttemptRecord) -> int:
    ended = attempt.failure in LOSING
    return ended + sum(restart.get("failure") in LOSING for restart in attempt.restarts)
