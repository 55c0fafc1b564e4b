"""`checkpoint: auto`: the interval follows what the ledger saw, and the plan says why."""

from __future__ import annotations

from typing import Any

from bedplate.core.plan import PlannedStep, Step
from bedplate.core.pool import Placement
from bedplate.core.record import AttemptRecord, Records, RunRecord
from bedplate.core.run import RunState
from bedplate.core.spec import Job
from bedplate.flow.intervals import checkpoint_settings, explained, rates_of
from bedplate.flow.planner import plan
from bedplate.train.checkpoints.interval import PRIOR_MTBF_S, Rates
from flow.world import SHOP, World

HOUR_S = 3600.0


def run_of(
    name: str, *failures: str | None, step: str = "fit", workers: int = 2, stall_s: float | None = None, **attempt: Any
) -> RunRecord:
    """A run whose attempts took an hour each."""
    checkpoint = None if stall_s is None else {"step": 1, "stall_s": stall_s}
    made = {"fingerprint": name, "placement": {"world_size": workers}}
    run = RunRecord(name, step, "train", "run-1", 0.0, RunState(name, "succeeded", checkpoint=checkpoint), made)
    for token, failure in enumerate(failures, 1):
        record = AttemptRecord(token, "local", "", {}, HOUR_S * token, HOUR_S * (token + 1), failure=failure)
        for field, value in attempt.items():
            setattr(record, field, value)
        run.attempts.append(record)
    return run


def records(*runs: RunRecord) -> Records:
    return Records(runs={run.id: run for run in runs})


def test_failures_that_lose_work_count_by_worker_seconds() -> None:
    known = records(run_of("a", "worker_lost", "user_error", None), run_of("b", "preempted", step="other", workers=1))
    found = rates_of(known, "fit", 0.0)
    assert (found.failures, found.observed_s) == (2, 7 * HOUR_S)
    assert found.mtbf_s == (PRIOR_MTBF_S + 7 * HOUR_S) / 3


def test_ranks_replaced_in_place_are_failures_too() -> None:
    known = records(run_of("a", None, restarts=[{"failure": "worker_lost"}, {"failure": "resize"}]))
    assert rates_of(known, "fit", 0.0).failures == 1


def test_stalls_are_those_of_the_step_itself() -> None:
    known = records(run_of("a", None, stall_s=0.2), run_of("b", None, stall_s=0.4), run_of("c", None, step="other", stall_s=9.0))
    found = rates_of(known, "fit", 0.0)
    assert (found.stall_s, found.stalls) == (0.4, 2)


def test_an_attempt_that_still_runs_counts_up_to_now() -> None:
    known = records(run_of("a", None, ended_at_s=None))
    assert rates_of(known, "fit", 2 * HOUR_S).observed_s == 2 * HOUR_S


def test_only_steps_that_will_run_say_their_interval() -> None:
    placement = Placement("local", "local", 2, (), "")
    step = Step("fit", "train", (), {})
    rates = {"fit": Rates(86_400.0, 0.1)}
    run, fresh = PlannedStep(step, "run", "never made", placement=placement), PlannedStep(step, "fresh", "fit@1")
    said, unsaid = explained([run, fresh], rates)
    assert said.why.startswith("never made; checkpoint every 93 s (assumed stall 100 ms, no failure in 0.0 worker hours")
    assert unsaid == fresh
    assert explained([run], {}) == (run,)


def test_what_a_worker_is_told() -> None:
    job = Job.model_validate(
        {"function": "a.py:f", "checkpoint": {"every": "2m", "tiers": ["memory", "s3://b/p"], "keep": {"last": 3, "best": "loss"}}}
    )
    told = checkpoint_settings(job, None, 4)
    assert told == {"every_s": 120.0, "tiers": ["memory", "s3://b/p"], "keep": {"last": 3, "every": 0, "best": "loss"}}
    assert checkpoint_settings(job, Rates(1000.0, 0.2), 4)["mtbf_s"] == 250.0


def test_the_plan_says_which_interval_and_why(world: World) -> None:
    world.declare(SHOP.replace("max_restarts: 2", "max_restarts: 2, checkpoint: auto"))
    found = plan(world.workspace)
    assert "; checkpoint every" in found.step("make").why
    assert "one a day and worker assumed" in found.text()
    assert "checkpoint every" not in found.step("fit").why
