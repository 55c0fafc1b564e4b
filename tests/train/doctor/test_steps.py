"""The model of a step, against runs that were simulated event by event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bedplate.train.doctor.steps import jitter_s, work_of
from train.timelines import Scenario, simulate


def test_the_parts_sum_to_the_step() -> None:
    for scenario in (Scenario(1), Scenario(2, data=1), Scenario(3, data=2, pipeline=4, micro_batches=16)):
        run = simulate(scenario).measured()
        assert run.mean(work_of(run).time_s()) == pytest.approx(run.mean(run.step_s), rel=0.05)


def test_the_link_gets_what_waiting_for_ranks_does_not_explain() -> None:
    for scenario in (
        Scenario(1, data=8, link_s=0.006),
        Scenario(1, data=8, link_s=0.006, slow={3: 1.5}),
        Scenario(1, data=8, compute_s=0.012),
    ):
        run = simulate(scenario).measured()
        assert run.mean(work_of(run).link_s) == pytest.approx(scenario.link_s, rel=0.15, abs=0.0003)


def test_a_pipeline_takes_the_time_that_its_operations_take() -> None:
    for stages, micro_batches in ((2, 4), (4, 8), (4, 32)):
        scenario = Scenario(5, data=1, pipeline=stages, micro_batches=micro_batches, jitter=0.001, link_s=0.0)
        run = simulate(scenario).measured()
        work = work_of(run)
        assert run.mean(work.stepping_s()) == pytest.approx(run.mean(run.step_s), rel=0.01)
        assert run.mean(work.bubble_s()) == pytest.approx(0.05 * (stages - 1) / micro_batches, rel=0.02)


def test_more_parts_a_rank_divide_the_bubble() -> None:
    run = simulate(Scenario(5, data=1, pipeline=4, micro_batches=8)).measured()
    work = work_of(run)
    assert replace(work, stages_per_rank=2).bubble_s() == pytest.approx(work.bubble_s() / 2)


def test_jitter_is_what_equal_ranks_wait_for_one_another() -> None:
    fast = simulate(Scenario(1, data=8, compute_s=0.008, jitter=0.05, steps=2000)).measured()
    assert fast.steps.min() > 1
    own = np.random.default_rng(0).normal(0.008, 0.0004, (100_000, 8))
    assert jitter_s(fast).mean() == pytest.approx(float(own.max(axis=1).mean()) - 0.008, rel=0.3)
    assert jitter_s(simulate(Scenario(1, data=8, compute_s=0.5)).measured()).max() == 0.0, "single steps show it as it was"
    assert jitter_s(simulate(Scenario(1, data=1)).measured()).max() == 0.0
