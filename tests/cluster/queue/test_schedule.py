"""The pass on small cases, and what always holds on seeded workloads that are played to their end."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.cluster.queue import Decision, Job, Place, Project, Running, State, replayed, scheduled
from bedplate.cluster.queue.schedule import AGING_S, level
from bedplate.cluster.queue.state import WHOLE, decayed

TICK_S = 600.0
ONE = (Project("a", 2000, 4000),)
TWO = (Project("a", 2000, 4000), Project("b", 2000, 4000))


def running(name: str, project: str, *at: tuple[int, int], started_s: float = 0.0, saved_s: float = 0.0, **job: object) -> Running:
    places = tuple(Place(node, (device,)) for node, device in at)
    return Running(Job(name, project, 0.0, workers=len(at), **job), places, started_s, saved_s)


def decided(state: State, now_s: float = 100.0) -> dict[str, Decision]:
    return {decision.job: decision for decision in scheduled(state, now_s)}


def said(state: State, now_s: float = 100.0) -> dict[str, str]:
    return {name: each.verdict.reason or each.verdict.kind for name, each in decided(state, now_s).items()}


def test_priority_then_least_use_then_submission() -> None:
    projects = (replace(TWO[0], used_s=100.0), TWO[1])
    jobs = (Job("a", "a", 0), Job("late", "b", 9), Job("b", "b", 1), Job("high", "a", 50, priority=1))
    assert [each.job for each in scheduled(State((4,), projects, jobs), 100.0)] == ["high", "b", "late", "a"]


def test_waiting_and_a_pressing_deadline_raise_the_level() -> None:
    job = Job("j", "a", 0.0, priority=1, length_s=100.0)
    assert level(job, 0.0) == 1 and level(job, AGING_S) == 2
    assert level(replace(job, deadline_s=1000.0), 0.0) == 2
    assert level(replace(job, deadline_s=1e6), 0.0) == 1


def test_a_gang_starts_whole_or_reserves_and_only_short_ones_go_before_it() -> None:
    held = running("r", "a", (0, 0), (0, 1), length_s=1000.0)
    jobs = (
        Job("gang", "a", 0, workers=4),
        Job("long", "b", 1, length_s=5000.0),
        Job("short", "b", 2, length_s=500.0),
        Job("blind", "b", 3),
    )
    found = decided(State((4,), (Project("a", 4000, 8000), Project("b", 0, 8000)), jobs, (held,)))
    assert found["gang"].verdict.kind == "reserve" and found["gang"].verdict.at_s == 1000.0
    assert [found[name].verdict.reason for name in ("long", "short", "blind")] == ["reservation", "", "reservation"]
    assert found["long"].why.head == "gang"


def test_a_long_job_may_use_what_the_reservation_leaves() -> None:
    held = running("r", "a", (0, 0), (0, 1), length_s=1000.0)
    jobs = (Job("gang", "a", 0, milli=4000), Job("long", "b", 1, length_s=5000.0))
    state = State((4, 1), (Project("a", 8000, 8000), Project("b", 0, 8000)), jobs, (held,))
    assert said(state) == {"gang": "reserve", "long": "start"}
    assert decided(state)["long"].verdict.places == (Place(1, (0,)),)


def test_a_guarantee_is_taken_back_from_who_borrows_and_loses_least() -> None:
    held = tuple(running(f"r{each}", "a", (0, each), saved_s=10.0 * each) for each in range(4))
    jobs = (Job("mine", "b", 50), Job("more", "b", 51, workers=2))
    found = decided(State((4,), TWO, jobs, held))
    assert found["mine"].verdict.victims == ("r3",) and found["mine"].verdict.places == (Place(0, (3,)),)
    assert found["more"].verdict.kind != "preempt", "two more would be beyond b's guarantee"


def test_who_keeps_within_its_guarantee_is_not_stopped_by_another_project() -> None:
    held = (running("r", "b", (0, 0), (0, 1)), running("s", "c", (0, 2), (0, 3), saved_s=-1e6))
    projects = (*TWO, Project("c", 0, 4000))
    job = Job("j", "a", 0, priority=9)
    assert decided(State((4,), projects, (job,), held))["j"].verdict.victims == ("s",)
    assert said(State((4,), (*TWO, Project("c", 2000, 4000)), (job,), held)) == {"j": "reserve"}


def test_a_job_stops_lower_priority_of_its_own_project_and_no_more_than_it_needs() -> None:
    held = (running("small", "a", (0, 0), saved_s=90.0), running("wide", "a", (0, 1), (0, 2), (0, 3), saved_s=80.0))
    found = decided(State((4,), ONE, (Job("j", "a", 0, workers=2, priority=1),), held))
    assert found["j"].verdict.victims == ("wide",)
    assert said(State((4,), ONE, (Job("j", "a", 0, workers=2),), held)) == {"j": "ceiling"}


def test_ceilings_hold_and_who_waits_for_one_is_not_overtaken() -> None:
    held = running("r", "a", (0, 0), (0, 1), length_s=1000.0)
    projects = (Project("a", 2000, 3000), Project("b", 2000, 4000))
    jobs = (
        Job("two", "a", 0, workers=2),
        Job("long", "a", 1, length_s=5000.0),
        Job("short", "a", 2, length_s=10.0),
        Job("other", "b", 3),
        Job("huge", "a", 4, workers=9),
        Job("broad", "b", 5, milli=4000),
    )
    assert said(State((3, 3), projects, jobs, (held,))) == {
        "two": "ceiling", "long": "project", "short": "start", "other": "start", "huge": "impossible", "broad": "impossible",
    }  # fmt: skip


def test_a_later_job_of_its_project_does_not_fill_the_ceiling_of_the_head() -> None:
    held = running("r", "b", (0, 0), (0, 1), (0, 2), length_s=1000.0)
    projects = (Project("a", 0, 4000), Project("b", 4000, 8000))
    jobs = (
        Job("head", "a", 0, milli=3000),
        Job("long", "a", 1, workers=2, length_s=5000.0),
        Job("short", "a", 2, length_s=500.0),
        Job("small", "a", 3, length_s=5000.0),
        Job("other", "b", 4, length_s=5000.0),
    )
    state = State((3, 4), projects, jobs, (held, running("s", "b", (1, 0), length_s=9000.0), running("t", "b", (1, 3), length_s=9000.0)))
    assert said(state) == {
        "other": "start",
        "head": "reserve",
        "long": "reservation",
        "short": "start",
        "small": "reservation",
    }


def test_parts_of_a_device_share_it_and_leave_whole_ones_free() -> None:
    jobs = tuple(Job(f"part{each}", "a", each, milli=500) for each in range(2))
    found = decided(State((2,), ONE, (*jobs, Job("whole", "a", 3))))
    assert found["part0"].verdict.places == found["part1"].verdict.places == (Place(0, (0,)),)
    assert found["whole"].verdict.places == (Place(0, (1,)),)


def test_a_worker_stays_on_one_node_and_a_gang_may_spread() -> None:
    jobs = (Job("wide", "a", 0, milli=3000), Job("gang", "a", 1, workers=3))
    projects = (Project("a", 4000, 9000),)
    assert said(State((2, 2), projects, jobs)) == {"wide": "impossible", "gang": "start"}
    assert {place.node for place in decided(State((2, 2), projects, jobs))["gang"].verdict.places} == {0, 1}


def test_who_waited_long_goes_before_more_priority_that_came_later() -> None:
    old, new = Job("old", "a", 0.0), Job("new", "a", 2 * AGING_S - 1, priority=1)
    state = State((1,), ONE, (new, old))
    assert [each.job for each in scheduled(state, 2 * AGING_S)] == ["old", "new"]
    assert [each.job for each in scheduled(State((1,), ONE, (replace(old, submitted_s=2 * AGING_S - 2), new)), 2 * AGING_S)] == [
        "new",
        "old",
    ]


def test_aging_stops_nobody() -> None:
    held = running("r", "a", (0, 0), priority=1, started_s=9 * AGING_S, saved_s=0.0)
    state = State((1,), ONE, (Job("old", "a", 0.0, priority=1),), (held,))
    assert said(state, 10 * AGING_S) == {"old": "reserve"}


def test_a_job_that_overran_its_estimate_moves_the_reservation_on() -> None:
    held = running("r", "a", (0, 0), length_s=1000.0)
    state = State((1,), ONE, (Job("j", "a", 0.0),), (held,))
    assert decided(state, 500.0)["j"].verdict.at_s == 1000.0
    assert decided(state, 20_000.0)["j"].verdict.at_s == 40_000.0


def test_the_reserved_places_are_those_that_end_first() -> None:
    held = tuple(running(f"r{each}", "a", (0, each), length_s=1000.0 * (each + 1)) for each in range(3))
    state = State((3,), (Project("a", 3000, 9000), Project("b", 0, 9000)), (Job("j", "b", 0.0, workers=2),), held)
    verdict = decided(state)["j"].verdict
    assert (verdict.kind, verdict.at_s) == ("reserve", 2000.0)
    assert {place.devices for place in verdict.places} == {(0,), (1,)}


def test_who_is_on_reserved_devices_is_not_stopped_for_another() -> None:
    held = (running("r", "a", (0, 0), length_s=1000.0), running("s", "a", (0, 1), length_s=9000.0))
    jobs = (Job("head", "c", 0.0), Job("mine", "b", 1.0))
    projects = (Project("a", 0, 2000), Project("b", 1000, 2000), Project("c", 0, 2000))
    found = decided(State((2,), projects, jobs, held))
    assert found["head"].verdict.places == (Place(0, (0,)),)
    assert found["mine"].verdict.victims == ("s",)


def test_a_borrower_is_stopped_only_while_it_borrows() -> None:
    held = tuple(running(f"r{each}", "a", (0, each)) for each in range(4))
    projects = (Project("a", 3000, 4000), Project("b", 1000, 4000))
    jobs = tuple(Job(f"j{each}", "b", each) for each in range(3))
    found = decided(State((4,), projects, jobs, held))
    assert [found[f"j{each}"].verdict.kind for each in range(3)] == ["preempt", "reserve", "wait"]
    assert len(found["j0"].verdict.victims) == 1


def test_on_few_nodes_goes_first_among_those_that_lose_as_much() -> None:
    held = (running("apart", "a", (0, 0), (1, 0), saved_s=100.0), running("near", "a", (0, 1), (0, 2), saved_s=100.0))
    projects = (Project("a", 0, 9000), Project("b", 1000, 9000))
    assert decided(State((3, 1), projects, (Job("j", "b", 0.0),), held))["j"].verdict.victims == ("near",)


def test_a_job_at_its_ceiling_makes_room_by_its_own_lower_priority() -> None:
    held = (running("low", "a", (0, 0), (0, 1)), running("other", "b", (0, 2), (0, 3)))
    projects = (Project("a", 0, 2000), Project("b", 0, 4000))
    found = decided(State((6,), projects, (Job("j", "a", 0.0, priority=1),), held))
    assert found["j"].verdict.victims == ("low",)
    assert said(State((6,), projects, (Job("j", "a", 0.0),), held)) == {"j": "ceiling"}


def test_jobs_alike_wait_for_the_same_reason_each_by_its_name() -> None:
    held = running("r", "a", (0, 0))
    jobs = tuple(Job(f"j{each}", "a", each) for each in range(5))
    found = scheduled(State((1,), ONE, jobs, (held,)), 100.0)
    assert [each.job for each in found] == [f"j{each}" for each in range(5)]
    assert [each.verdict.reason for each in found] == ["", *["devices"] * 4]
    assert all(replayed(each.job, each.why) == each for each in found)


def test_nothing_waits_nothing_is_decided_and_the_same_state_gives_the_same() -> None:
    assert scheduled(State((1,), ONE), 0.0) == []
    player = Player(3)
    state = State(player.nodes, player.projects, tuple(player.jobs))
    assert scheduled(state, 60_000.0) == scheduled(state, 60_000.0)


@given(st.integers(0, 10**6), st.floats(0, 1e6))
@settings(max_examples=30, deadline=None)
def test_one_pass_gives_no_device_twice_and_no_more_than_ceilings(seed: int, now_s: float) -> None:
    player = Player(seed)
    jobs = {job.name: job for job in player.jobs}
    decisions = scheduled(State(player.nodes, player.projects, tuple(player.jobs)), now_s)
    assert player._carry_out(decisions, jobs, now_s) == []
    player._check()


class Player:
    """A workload played to its end, every pass checked."""

    def __init__(self, seed: int) -> None:
        drawn = random.Random(seed)
        self.nodes = tuple(drawn.choice([1, 2, 4, 8]) for _ in range(drawn.randint(1, 5)))
        total, names = WHOLE * sum(self.nodes), "abc"
        self.projects = tuple(Project(name, total // 3, drawn.choice([total, total // 2 + 1000])) for name in names)
        self.left_s: dict[str, float] = {}
        self.jobs: list[Job] = []
        for number in range(40):
            milli = drawn.choice([250, 500, 1000, 1000, 1000 * drawn.randint(1, max(self.nodes))])
            length_s = drawn.uniform(60, 20_000)
            estimate_s = drawn.choice([None, length_s, length_s * 1.5, length_s * 0.7])
            job = Job(
                f"j{number}",
                drawn.choice(names),
                drawn.uniform(0, 50_000),
                drawn.randint(1, 3),
                milli,
                drawn.choice([0, 0, 1, 2]),
                estimate_s,
            )
            self.jobs.append(job)
            self.left_s[job.name] = length_s
        self.running: dict[str, Running] = {}
        self.stopped: Counter[str] = Counter()
        self.reserved: dict[str, tuple[float, Decision]] = {}

    def play(self) -> set[str]:
        """Returns the jobs that can never run."""
        now_s, waiting, never = 0.0, list(self.jobs), set()
        while waiting or self.running:
            assert now_s < 5e6, f"starved: {[job.name for job in waiting]}"
            self._work()
            here = [job for job in waiting if job.submitted_s <= now_s]
            state = State(self.nodes, self.projects, tuple(here), tuple(self.running.values()))
            decisions = scheduled(state, now_s)
            assert sorted(each.job for each in decisions) == sorted(job.name for job in here)
            waiting += self._carry_out(decisions, {job.name: job for job in here}, now_s)
            never |= {each.job for each in decisions if each.verdict.reason == "impossible"}
            waiting = [job for job in waiting if job.name not in self.running and job.name not in never]
            self._check()
            now_s += TICK_S
        return never

    def _work(self) -> None:
        used = Counter({project.name: decayed(project.used_s, TICK_S) for project in self.projects})
        for name, each in list(self.running.items()):
            used[each.job.project] += TICK_S * each.job.asked_milli / WHOLE
            self.left_s[name] -= TICK_S
            if self.left_s[name] <= 0:
                del self.running[name]
        self.projects = tuple(replace(project, used_s=used[project.name]) for project in self.projects)

    def _carry_out(self, decisions: list[Decision], jobs: dict[str, Job], now_s: float) -> list[Job]:
        back = []
        heads = [each for each in decisions if each.verdict.kind == "reserve"]
        assert len(heads) <= 1
        for each in decisions:
            assert replayed(each.job, each.why) == each
            for victim in each.verdict.victims:
                gone = self.running.pop(victim)
                back.append(gone.job)
                self.stopped[victim] += 1
                own = gone.job.project == jobs[each.job].project
                assert not own or gone.job.priority < jobs[each.job].priority
            if each.verdict.kind in ("start", "preempt"):
                job = jobs[each.job]
                assert len(each.verdict.places) == job.workers
                self.running[job.name] = Running(job, each.verdict.places, now_s, now_s)
        for head in heads:
            self._keeps(head, jobs[head.job], now_s)
        return back

    def _keeps(self, head: Decision, job: Job, now_s: float) -> None:
        """By the estimates the reserved devices are free at the reserved time, whatever started in this pass."""
        free = [[WHOLE] * devices for devices in self.nodes]
        for each in self.running.values():
            until_s = float("inf") if each.job.length_s is None and each.started_s == now_s else each.ends_s(now_s)
            if until_s > head.verdict.at_s and not (each.started_s == now_s and self._before(each, head)):
                _take(free, each)
        _take(free, Running(job, head.verdict.places, now_s, now_s))
        assert all(left >= 0 for devices in free for left in devices), f"{job.name} is delayed"

    def _before(self, each: Running, head: Decision) -> bool:
        """Started before the head was considered, of unknown length: the head's time is an estimate then."""
        return each.job.length_s is None and head.verdict.at_s >= each.ends_s(each.started_s)

    def _check(self) -> None:
        free = [[WHOLE] * devices for devices in self.nodes]
        held: Counter[str] = Counter()
        for each in self.running.values():
            held[each.job.project] += each.job.asked_milli
            _take(free, each)
            for place in each.places:
                assert len(set(place.devices)) == max(1, each.job.milli // WHOLE)
        assert all(left >= 0 for devices in free for left in devices), "a device was given twice"
        assert all(held[project.name] <= project.ceiling_milli for project in self.projects)


def _take(free: list[list[int]], each: Running) -> None:
    for place in each.places:
        for device in place.devices:
            free[place.node][device] -= min(each.job.milli, WHOLE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(max(50, int(metafunc.config.getoption("--schedules")))))


def test_a_workload_is_played_to_its_end(seed: int) -> None:
    player = Player(seed)
    never = player.play()
    assert all(player.left_s[job.name] <= 0 for job in player.jobs if job.name not in never)
    assert max(player.stopped.values(), default=0) <= len(player.jobs), "stopped and started again in a circle"
