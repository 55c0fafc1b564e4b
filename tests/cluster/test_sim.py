"""The simulated launcher: a seed gives a history again, and a run comes to an end whatever the seed has for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.cluster.engines.sim import Faults, SimLauncher, succeed
from bedplate.core.attempt import Attempt
from bedplate.core.clock import SimClock
from bedplate.core.event import Draft
from bedplate.core.journal import Entry, JournalReader
from bedplate.core.run import ENDED, Finish, RunState, Start, advance
from cluster.rig import attempt_in, journal_of

STEPS = 20


def training(_attempt: Attempt) -> list[tuple[float, str, dict[str, Any]]]:
    """A progress entry a second, a checkpoint every fifth, and a good end."""
    told: list[tuple[float, str, dict[str, Any]]] = [(float(step), "progress", {"done": step}) for step in range(1, STEPS + 1)]
    told += [(float(step), "checkpoint", {"step": step}) for step in range(5, STEPS + 1, 5)]
    return [*sorted(told, key=lambda entry: entry[0]), (STEPS + 1.0, "ended", {"status": "succeeded", "failure": None, "message": ""})]


def play(launcher: SimLauncher, clock: SimClock, attempts: Sequence[Attempt], tick_s: float = 1.0) -> None:
    """Submit and poll until all are gone."""
    handles = [launcher.submit(attempt) for attempt in attempts]
    for _ in range(10_000):
        if {launcher.poll(handle) for handle in handles} == {"gone"}:
            return
        clock.sleep(tick_s)
    raise AssertionError(f"{launcher!r} goes on for ever")


def told(attempt: Attempt) -> list[tuple[int, str, dict[str, Any]]]:
    return [(entry.number, entry.kind, dict(entry.body)) for entry in journal_of(attempt)]


def test_a_script_is_played_as_the_clock_moves(tmp_path: Path) -> None:
    clock, attempt = SimClock(1000.0), attempt_in(tmp_path)
    launcher = SimLauncher(training, clock)
    handle = launcher.submit(attempt)
    assert [entry.kind for entry in journal_of(attempt)] == ["started"]
    clock.sleep(5.0)
    assert launcher.poll(handle) == "alive"
    assert [entry.kind for entry in journal_of(attempt)] == ["started", *["progress"] * 5, "checkpoint"]
    clock.sleep(100.0)
    assert launcher.poll(handle) == "gone"
    assert journal_of(attempt)[-1].body["status"] == "succeeded"
    assert launcher.submitted == [("fit-1", 1)]


def test_an_attempt_without_a_script_of_its_own_succeeds(tmp_path: Path) -> None:
    clock, attempt = SimClock(), attempt_in(tmp_path)
    play(SimLauncher(clock=clock), clock, [attempt])
    assert [kind for _, kind, _ in told(attempt)] == ["started", *(kind for _, kind, _ in succeed(attempt))]


def test_an_attempt_that_falls_silent_is_gone_without_an_end(tmp_path: Path) -> None:
    clock, attempt = SimClock(), attempt_in(tmp_path)
    play(SimLauncher(training, clock, faults=Faults(lost=1.0)), clock, [attempt])
    kinds = [kind for _, kind, _ in told(attempt)]
    assert "ended" not in kinds
    assert 1 <= len(kinds) < len(training(attempt)) + 1


def test_a_preempted_attempt_says_so_and_nothing_after(tmp_path: Path) -> None:
    clock, attempt = SimClock(), attempt_in(tmp_path)
    play(SimLauncher(training, clock, faults=Faults(preempted=1.0)), clock, [attempt])
    ends = [body for _, kind, body in told(attempt) if kind == "ended"]
    assert ends == [{"status": "failed", "failure": "worker_lost", "message": "preempted"}]
    assert told(attempt)[-1][1] == "ended"


def test_a_duplicate_is_the_same_entry_delivered_twice(tmp_path: Path) -> None:
    clock, attempt = SimClock(), attempt_in(tmp_path)
    play(SimLauncher(training, clock, faults=Faults(duplicated=1.0)), clock, [attempt])
    numbers = [number for number, _, _ in told(attempt)]
    count = len(training(attempt)) + 1
    assert numbers == [1, *(number for number in range(2, count + 1) for _ in range(2))]
    once = {number: (kind, body) for number, kind, body in told(attempt)}
    assert [once[number + 2] for number in range(count - 1)] == [(kind, body) for _, kind, body in training(attempt)]


def test_delay_keeps_the_order_of_a_writer(tmp_path: Path) -> None:
    clock, attempt = SimClock(), attempt_in(tmp_path)
    play(SimLauncher(training, clock, faults=Faults(delay_s=30.0)), clock, [attempt])
    assert clock.now() > STEPS + 1
    assert [(kind, body) for _, kind, body in told(attempt)][1:] == [(kind, body) for _, kind, body in training(attempt)]


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_gives_the_same_history_whatever_else_happens(tmp_path: Path, seed: int) -> None:
    faults = Faults(preempted=0.3, lost=0.3, duplicated=0.3, delay_s=2.0)
    histories = []
    for name, tokens, tick_s in [("a", (1, 2, 3), 1.0), ("b", (3, 2, 1), 0.1), ("c", (2, 3, 1), 50.0)]:
        clock = SimClock(1e6)
        attempts = {token: attempt_in(tmp_path / name, token=token) for token in tokens}
        play(SimLauncher(training, clock, seed, faults), clock, list(attempts.values()), tick_s)
        histories.append([told(attempts[token]) for token in (1, 2, 3)])
    assert histories[0] == histories[1] == histories[2]


def test_seeds_differ_and_are_shown(tmp_path: Path) -> None:
    histories = set()
    for seed in range(8):
        clock, attempt = SimClock(), attempt_in(tmp_path / str(seed))
        launcher = SimLauncher(training, clock, seed, Faults(preempted=0.5))
        play(launcher, clock, [attempt])
        histories.add(len(told(attempt)))
        assert f"seed={seed}" in repr(launcher)
    assert len(histories) > 2


# -- a whole run ----------------------------------------------------------------------------------------------------------------------


class SmallLoop:
    """The least that drives one run by its journals: what the real loop does, without a ledger."""

    def __init__(self, folder: Path, launcher: SimLauncher, clock: SimClock) -> None:
        self.folder, self.launcher, self.clock = folder, launcher, clock
        self.state = RunState("fit-1")
        self.seen: set[tuple[int, str, int]] = set()

    def run(self) -> RunState:
        self.advance("run.created", {"max_restarts": 3})
        for _ in range(10_000):
            if self.state.status in ENDED:
                return self.state
            self.clock.sleep(0.7)
            gone = self.launcher.poll(self.handle) == "gone"
            for entry in self.reader.read():
                self.take(entry)
            if gone and self.state.live and self.state.token == self.token:
                self.advance("attempt.ended", {"token": self.token, "status": "failed", "failure": "worker_lost"})
        raise AssertionError(f"{self.launcher!r} goes on for ever")

    def take(self, entry: Entry) -> None:
        key = (self.token, entry.writer, entry.number)
        if key not in self.seen and self.token == self.state.token:
            self.seen.add(key)
            kind = {"checkpoint": "checkpoint.committed", "ended": "attempt.ended"}.get(entry.kind)
            if kind is not None:
                self.advance(kind, {"token": self.token, **entry.body})

    def advance(self, kind: str, payload: dict[str, Any]) -> None:
        self.state, commands = advance(self.state, Draft(kind, "fit-1", payload))
        for command in commands:
            if isinstance(command, Start):
                self.token = command.token
                attempt = attempt_in(self.folder, token=command.token, checkpoint=command.checkpoint)
                self.handle, self.reader = self.launcher.submit(attempt), JournalReader(attempt.path)
                self.advance("attempt.started", {"token": command.token})
            elif isinstance(command, Finish):
                self.advance("run.finished", {"status": command.status})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), lost=st.floats(0, 1), preempted=st.floats(0, 1), duplicated=st.floats(0, 1), delay_s=st.floats(0, 5))
def test_a_run_ends_and_never_goes_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, lost: float, preempted: float, duplicated: float, delay_s: float
) -> None:
    """Its checkpoints only grow, it is started at most four times, and it succeeds unless its last attempt was lost as well."""
    clock = SimClock()

    def go_on(attempt: Attempt) -> list[tuple[float, str, dict[str, Any]]]:
        done = attempt.checkpoint["step"] if attempt.checkpoint else 0
        return [(at_s, kind, body) for at_s, kind, body in training(attempt) if at_s > done]

    launcher = SimLauncher(go_on, clock, seed, Faults(preempted, lost, duplicated, delay_s))
    loop = SmallLoop(tmp_path_factory.mktemp("run"), launcher, clock)
    state = loop.run()
    assert launcher.submitted == [("fit-1", token) for token in range(1, state.token + 1)]
    assert state.token == state.restarts + 1 <= 4
    assert state.status in ("succeeded", "failed")
    assert state.status == "succeeded" or state.restarts == state.max_restarts
    steps = [entry.body["step"] for token in range(1, state.token + 1) for entry in checkpoints(loop.folder, token)]
    assert steps == sorted(steps)
    assert (state.checkpoint or {}).get("step") == (steps[-1] if steps else None)


def checkpoints(folder: Path, token: int) -> list[Entry]:
    return [entry for entry in JournalReader(folder / "runs" / "fit-1" / str(token)).read() if entry.kind == "checkpoint"]
