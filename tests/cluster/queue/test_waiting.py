"""Why a job waits: the holder, the time, and changes that do start it when they are made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.cluster.queue import Change, Job, Pass, Place, Project, Running, State, Waiting, explained, scheduled
from bedplate.core.errors import NotFound
from cluster.queue.test_invariants import NOW_S, drawn_state

A = Project("a", 4000, 4000)
B = Project("b", 0, 4000)


def running(name: str, project: str, devices: int, first: int = 0, **job: object) -> Running:
    return Running(Job(name, project, 0.0, milli=1000 * devices, **job), (Place(0, tuple(range(first, first + devices))),), 0.0, 0.0)


def why(state: State, name: str, now_s: float = 100.0) -> Waiting:
    return explained(state, Pass(state, now_s), name)


def test_the_head_waits_for_who_holds_the_devices_reserved_for_it() -> None:
    held = (running("early", "a", 2, length_s=500.0), running("late", "a", 2, 2, length_s=9000.0))
    found = why(State((4,), (A, B), (Job("j", "b", 0.0, milli=2000),), held), "j")
    assert (found.decision.verdict.kind, found.starts_s) == ("reserve", 500.0)
    assert [(holder.job, holder.milli, holder.until_s) for holder in found.holders] == [("early", 2000, 500.0)]
    assert found.changes == ()


def test_who_would_delay_the_head_may_say_that_it_is_shorter() -> None:
    held = (running("r", "a", 3, length_s=1000.0),)
    jobs = (Job("head", "b", 0.0, milli=4000), Job("long", "b", 1.0, length_s=5000.0))
    found = why(State((4,), (A, Project("b", 0, 8000)), jobs, held), "long")
    assert found.behind == "head"
    assert found.changes == (Change("length_s", 900.0), Change("priority", 1.0)) or found.changes == (Change("length_s", 900.0),)


def test_a_gang_that_is_too_wide_is_told_how_wide_it_may_be() -> None:
    found = why(State((4,), (A, B), (Job("j", "b", 0.0, workers=3),), (running("r", "a", 2, length_s=700.0),)), "j")
    assert found.changes == (Change("workers", 2),)
    assert found.starts_s == 700.0


def test_priority_within_its_project_names_who_would_be_stopped() -> None:
    found = why(State((2,), (replace(A, guaranteed_milli=2000),), (Job("j", "a", 0.0),), (running("r", "a", 2),)), "j")
    assert found.changes == (Change("priority", 1, ("r",)),)


def test_at_its_ceiling_the_holders_are_the_projects_own_and_a_higher_one_would_do() -> None:
    held = (running("own", "a", 2, length_s=300.0), running("other", "b", 1, 2))
    found = why(State((8,), (Project("a", 0, 2000), B), (Job("j", "a", 0.0),), held), "j")
    assert found.decision.verdict.reason == "ceiling"
    assert [holder.job for holder in found.holders] == ["own"]
    assert Change("ceiling_milli", 3000) in found.changes


def test_who_waits_behind_its_project_is_told_behind_whom() -> None:
    held = (running("own", "a", 2, length_s=300.0),)
    jobs = (Job("two", "a", 0.0, milli=2000), Job("long", "a", 1.0, length_s=5000.0))
    found = why(State((8,), (Project("a", 0, 3000), B), jobs, held), "long")
    assert (found.behind, found.starts_s) == ("two", 300.0)
    assert Change("length_s", 200.0) in found.changes


def test_what_never_fits_has_no_holder_and_no_time() -> None:
    found = why(State((2,), (A,), (Job("j", "a", 0.0, milli=3000),), (running("r", "a", 2),)), "j")
    assert (found.decision.verdict.reason, found.holders, found.starts_s) == ("impossible", (), None)


def test_who_starts_now_waits_for_nothing_and_who_does_not_wait_is_named() -> None:
    state = State((2,), (A,), (Job("job", "a", 0.0),))
    assert (why(state, "job").starts_s, why(state, "job").changes) == (100.0, ())
    with pytest.raises(NotFound, match="no such job waits") as caught:
        why(state, "jbo")
    assert "job" in str(caught.value.fix)


def changed(state: State, name: str, change: Change) -> State:
    """The state with that change made."""
    job = next(job for job in state.waiting if job.name == name)
    if change.what == "ceiling_milli":
        projects = [replace(each, ceiling_milli=int(change.value)) if each.name == job.project else each for each in state.projects]
        return replace(state, projects=tuple(projects))
    value = change.value if change.what == "length_s" else int(change.value)
    other = replace(job, **{change.what: value})
    return replace(state, waiting=tuple(other if each.name == name else each for each in state.waiting))


@pytest.mark.parametrize("number", range(60))
def test_every_change_that_is_named_does_start_the_job(number: int) -> None:
    state = drawn_state(number)
    made = Pass(state, NOW_S)
    assert made.decisions == scheduled(state, NOW_S)
    for job in state.waiting:
        for change in explained(state, made, job.name).changes:
            after = {each.job: each.verdict for each in scheduled(changed(state, job.name, change), NOW_S)}
            assert after[job.name].kind in ("start", "preempt"), (job, change)
    assert made.decisions == scheduled(state, NOW_S), "asking takes nothing"


def exact(state: State) -> State:
    """The same with an estimate for every job, and what ran past it ended."""
    waiting = tuple(replace(job, length_s=job.length_s or 5000.0) for job in state.waiting)
    running = tuple(replace(each, job=replace(each.job, length_s=each.job.length_s or 9000.0)) for each in state.running)
    return replace(state, waiting=waiting, running=tuple(each for each in running if each.started_s + each.job.length_s > NOW_S))


def heads(count: int) -> list[tuple[State, Pass, str]]:
    """States in which a job has a reservation and nothing is stopped for another, the first so many."""
    found = []
    for state in map(exact, map(drawn_state, range(2000))):
        made = Pass(state, NOW_S)
        kinds = [each.verdict.kind for each in made.decisions]
        if "reserve" in kinds and "preempt" not in kinds:
            found.append((state, made, made.decisions[kinds.index("reserve")].job))
    assert len(found) >= count
    return found[:count]


@pytest.mark.parametrize(("state", "made", "name"), heads(40))
def test_where_estimates_are_right_and_nobody_comes_the_head_starts_when_it_was_told(state: State, made: Pass, name: str) -> None:
    told_s = explained(state, made, name).starts_s
    assert told_s is not None
    started = {each.job for each in made.decisions if each.verdict.kind == "start"}
    jobs = {job.name: job for job in state.waiting}
    new = [Running(jobs[each.job], each.verdict.places, NOW_S, NOW_S) for each in made.decisions if each.job in started]
    left = tuple(each for each in (*state.running, *new) if each.started_s + (each.job.length_s or 0.0) > told_s)
    (later,) = scheduled(replace(state, waiting=(jobs[name],), running=left), told_s)
    assert later.verdict.kind == "start", later


@pytest.mark.parametrize("number", range(20))
def test_what_is_ahead_of_a_job_is_what_waits_before_it_and_itself(number: int) -> None:
    state = drawn_state(number)
    made = Pass(state, NOW_S)
    assert [made.jobs[made.numbers[job.name]] for job in state.waiting] == list(state.waiting)
    for place, milli in enumerate(made.ahead_milli):
        before = zip(made.jobs[: place + 1], made.decisions, strict=False)
        waits = [job for job, each in before if each.verdict.kind in ("wait", "reserve") and each.verdict.reason != "impossible"]
        assert milli == sum(job.asked_milli for job in waits)
    running = sum(each.job.asked_milli for each in state.running)
    gone = {name for each in made.decisions for name in each.verdict.victims}
    stopped = sum(each.job.asked_milli for each in state.running if each.job.name in gone)
    new = sum(job.asked_milli for job, each in zip(made.jobs, made.decisions, strict=True) if each.verdict.kind in ("start", "preempt"))
    assert made.held_milli == running - stopped + new


@pytest.mark.parametrize("number", range(20))
def test_holders_run_now_and_the_first_to_end_is_named_first(number: int) -> None:
    state = drawn_state(number)
    made = Pass(state, NOW_S)
    names = {each.job.name for each in state.running}
    for job in state.waiting:
        found = explained(state, made, job.name)
        assert {holder.job for holder in found.holders} <= names
        assert [holder.until_s for holder in found.holders] == sorted(holder.until_s for holder in found.holders)
        if found.decision.verdict.kind == "reserve":
            assert found.holders
            assert found.starts_s == found.decision.verdict.at_s
