"""What holds of one pass over any state that a seeded workload comes through, found out again by trying everything."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice, product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bedplate.cluster.queue import Decision, Job, Place, Project, Running, State, scheduled
from bedplate.cluster.queue.schedule import level
from bedplate.cluster.queue.state import WHOLE

SHAPES = ((1, 250), (1, 500), (2, 500), (1, 1000), (2, 1000), (3, 1000), (1, 2000), (2, 2000))
SEEDS = st.integers(0, 10**6)
NOW_S = 50_000.0


def drawn_state(seed: int) -> State:
    """A small cluster with jobs that run, placed by the pass itself, and others that wait."""
    drawn = random.Random(seed)
    nodes = tuple(drawn.choice([1, 2, 4]) for _ in range(drawn.randint(1, 3)))
    total = WHOLE * sum(nodes)
    projects = tuple(Project(name, total // 3, drawn.choice([total, total // 2 + 1000]), drawn.uniform(0, 1e5)) for name in "abc")
    first = State(nodes, projects, tuple(_job(drawn, f"r{number}") for number in range(8)))
    running = tuple(
        Running(_of(first.waiting, each.job), each.verdict.places, drawn.uniform(40_000, NOW_S), drawn.uniform(40_000, NOW_S))
        for each in scheduled(first, NOW_S)
        if each.verdict.kind == "start"
    )
    return State(nodes, projects, tuple(_job(drawn, f"w{number}") for number in range(6)), running)


def _job(drawn: random.Random, name: str) -> Job:
    workers, milli = drawn.choice(SHAPES)
    length_s = drawn.choice([None, drawn.uniform(600, 30_000)])
    return Job(name, drawn.choice("abc"), drawn.uniform(0, NOW_S), workers, milli, drawn.choice([0, 0, 1, 2]), length_s)


def _of(jobs: Iterable[Job], name: str) -> Job:
    return next(job for job in jobs if job.name == name)


def free_of(state: State, running: Iterable[Running]) -> list[list[int]]:
    free = [[WHOLE] * devices for devices in state.nodes]
    for each in running:
        for place in each.places:
            for device in place.devices:
                free[place.node][device] -= min(each.job.milli, WHOLE)
    return free


def fits(free: list[list[int]], workers: int, milli: int) -> bool:
    """Whether a gang fits, by counting: workers are alike, so each node and each device tells how many it holds."""
    if milli < WHOLE:
        return sum(left // milli for devices in free for left in devices) >= workers
    return sum(sum(left == WHOLE for left in devices) // (milli // WHOLE) for devices in free) >= workers


def first_of(decisions: list[Decision], kind: str) -> Decision | None:
    return next((each for each in decisions if each.verdict.kind == kind), None)


@given(SEEDS)
def test_jobs_are_considered_by_level_then_use_then_submission(seed: int) -> None:
    state = drawn_state(seed)
    share = {project.name: project.share for project in state.projects}
    wanted = sorted(state.waiting, key=lambda job: (-level(job, NOW_S), share[job.project], job.submitted_s))
    assert [each.job for each in scheduled(state, NOW_S)] == [job.name for job in wanted]


@given(SEEDS, st.randoms(use_true_random=False))
def test_the_order_in_which_jobs_are_given_decides_nothing(seed: int, shuffled: random.Random) -> None:
    state = drawn_state(seed)
    waiting, running = list(state.waiting), list(state.running)
    shuffled.shuffle(waiting)
    shuffled.shuffle(running)
    assert scheduled(replace(state, waiting=tuple(waiting), running=tuple(running)), NOW_S) == scheduled(state, NOW_S)


@given(SEEDS)
def test_the_first_job_starts_exactly_where_it_fits_below_its_ceiling(seed: int) -> None:
    state = drawn_state(seed)
    first = scheduled(state, NOW_S)[0]
    job = _of(state.waiting, first.job)
    held = sum(each.job.asked_milli for each in state.running if each.job.project == job.project)
    ceiling = next(project.ceiling_milli for project in state.projects if project.name == job.project)
    able = fits(free_of(state, state.running), job.workers, job.milli) and held + job.asked_milli <= ceiling
    assert (first.verdict.kind == "start") is able


def whose_first(kind: str, count: int) -> list[tuple[State, Decision]]:
    """States whose first job comes to that, the first so many."""
    drawn = ((state, scheduled(state, NOW_S)[0]) for state in map(drawn_state, range(5000)))
    found = list(islice(((state, first) for state, first in drawn if first.verdict.kind == kind), count))
    assert len(found) == count
    return found


@pytest.mark.parametrize(("state", "first"), whose_first("reserve", 40))
def test_a_reservation_is_for_the_first_end_after_which_it_fits(state: State, first: Decision) -> None:
    job = _of(state.waiting, first.job)
    fitting = [
        at_s
        for at_s in sorted(each.ends_s(NOW_S) for each in state.running)
        if fits(free_of(state, [each for each in state.running if each.ends_s(NOW_S) > at_s]), job.workers, job.milli)
    ]
    assert first.verdict.at_s == fitting[0]


@pytest.mark.parametrize(("state", "first"), whose_first("preempt", 40))
def test_no_victim_can_be_spared_and_nobody_is_brought_below_its_guarantee_by_another(state: State, first: Decision) -> None:
    job, gone = _of(state.waiting, first.job), set(first.verdict.victims)
    ceiling = next(project.ceiling_milli for project in state.projects if project.name == job.project)

    def able(stopped: set[str]) -> bool:
        left = [each for each in state.running if each.job.name not in stopped]
        held = sum(each.job.asked_milli for each in left if each.job.project == job.project)
        return fits(free_of(state, left), job.workers, job.milli) and held + job.asked_milli <= ceiling

    assert able(gone)
    assert not any(able(gone - {name}) for name in gone)
    held = Counter[str]()
    for each in state.running:
        held[each.job.project] += each.job.asked_milli
    for project in state.projects:
        lost = [each for each in state.running if each.job.name in gone and each.job.project == project.name]
        if project.name == job.project:
            assert all(each.job.priority < job.priority for each in lost)
        elif lost:
            last = min(each.job.asked_milli for each in lost)
            assert held[project.name] - sum(each.job.asked_milli for each in lost) + last > project.guaranteed_milli - last


@given(SEEDS)
def test_who_waits_for_devices_would_not_have_fitted(seed: int) -> None:
    state = drawn_state(seed)
    decisions = scheduled(state, NOW_S)
    assume(first_of(decisions, "preempt") is None)
    running = list(state.running)
    for each in decisions:
        job = _of(state.waiting, each.job)
        if each.verdict.kind == "start":
            running.append(Running(job, each.verdict.places, NOW_S, NOW_S))
        elif each.verdict.reason == "devices":
            assert not fits(free_of(state, running), job.workers, job.milli)


@given(SEEDS)
def test_a_job_that_can_never_run_changes_nothing_for_others(seed: int) -> None:
    state = drawn_state(seed)
    huge = Job("huge", "a", 0.0, workers=1 + sum(state.nodes), priority=9)
    found = scheduled(replace(state, waiting=(huge, *state.waiting)), NOW_S)
    assert found[0].job == "huge"
    assert found[0].verdict.reason == "impossible"
    assert found[1:] == scheduled(state, NOW_S)


@pytest.mark.parametrize(("guarantee", "share"), [*product((0, 1000, 4000), (0.0, 50.0))])
def test_use_is_told_for_each_guaranteed_device(guarantee: int, share: float) -> None:
    project = Project("a", guarantee, 8000, used_s=share * guarantee / WHOLE)
    assert project.share == pytest.approx(share if guarantee else 0.0)
    assert math.isfinite(replace(project, used_s=1.0).share)


def test_a_place_is_a_node_and_devices_of_it() -> None:
    decisions = scheduled(State((2, 2), (Project("a", 4000, 4000),), (Job("j", "a", 0.0, workers=2, milli=2000),)), 0.0)
    assert decisions[0].verdict.places == (Place(0, (0, 1)), Place(1, (0, 1)))
