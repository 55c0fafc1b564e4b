"""The life of a run: golden dialogues, and what holds for every order of events, kills of the loop included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.event import KINDS, Draft
from bedplate.core.run import ENDED, FAILURES, POLICIES, Command, Finish, RunState, Start, Stop, advance, pending_command

DIALOGUES = Path(__file__).parents[1] / "fixtures" / "run-dialogues.txt"


def event(kind: str, **payload: Any) -> Draft:
    return Draft(kind, "train-1", payload)


# -- golden dialogues -----------------------------------------------------------------------------------------------------------------


def shown_state(state: RunState) -> str:
    words = [state.status, f"attempt {state.token}", "live" if state.live else "idle", f"restarts {state.restarts}/{state.max_restarts}"]
    if state.checkpoint:
        words.append(f"checkpoint {state.checkpoint['step']}")
    if state.stopping != "no":
        words.append(f"to {state.stopping}")
    if state.ending:
        words.append(f"ending {state.ending.status}")
    return "    " + ", ".join(words)


def shown_command(command: Command) -> str:
    if isinstance(command, Start):
        return f"    -> start attempt {command.token}" + (f" from checkpoint {command.checkpoint['step']}" if command.checkpoint else "")
    if isinstance(command, Stop):
        return f"    -> {command.how} attempt {command.token}"
    reason = f": {command.failure}, {command.message}" if command.failure else ""
    return f"    -> finish {command.status}{reason}"


def replayed(text: str) -> str:
    """The same text with every answer computed anew."""
    lines, state = [], RunState("train-1")
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        lines.append(line)
        if line.startswith("==="):
            state = RunState("train-1")
        elif line == "adopt":
            command = pending_command(state)
            lines.append(shown_command(command) if command else "    -> nothing")
        elif line and not line.startswith("#"):
            kind, _, payload = line.partition(" ")
            assert kind in KINDS
            state, commands = advance(state, event(kind, **(yaml.safe_load(payload) or {})))
            lines += [shown_state(state), *map(shown_command, commands)]
    return "\n".join(lines) + "\n"


def test_the_dialogues_are_as_written_down() -> None:
    assert replayed(DIALOGUES.read_text()) == DIALOGUES.read_text()


# -- for every order of events --------------------------------------------------------------------------------------------------------

TOKENS = st.integers(0, 4)
ANY_EVENT = st.one_of(
    st.builds(lambda n: event("run.created", max_restarts=n), st.integers(0, 3)),
    st.builds(lambda token: event("attempt.started", token=token), TOKENS),
    st.builds(lambda token, step: event("checkpoint.committed", token=token, step=step), TOKENS, st.integers(0, 9)),
    st.builds(
        lambda token, status, failure: event("attempt.ended", token=token, status=status, failure=failure),
        TOKENS,
        st.sampled_from(["succeeded", "failed", "stopped"]),
        st.sampled_from([None, "unheard of", *FAILURES]),
    ),
    st.builds(lambda how: event("stop.requested", how=how), st.sampled_from(["stop", "cancel"])),
    st.builds(lambda status: event("run.finished", status=status), st.sampled_from(sorted(ENDED))),
    st.builds(lambda token: event("endpoint.ready", token=token, port=1), TOKENS),
    st.just(event("evaluation.recorded")),
)


@settings(max_examples=400)
@given(st.lists(ANY_EVENT, max_size=25))
def test_whatever_happens(events: list[Draft]) -> None:
    state = RunState("train-1")
    for happened in events:
        before, (state, commands) = state, advance(state, happened)
        if before.status in ENDED:
            assert (state, commands) == (before, []), "an end is final"
        token = happened.payload.get("token", before.token)
        if token != before.token and happened.kind != "attempt.started":
            assert (state, commands) == (before, []), "a stale token changes nothing"
        if before.live and state.live:
            assert state.token == before.token, "no attempt beside a live one"
        assert before.token <= state.token <= before.token + 1
        assert state.restarts <= state.max_restarts
        for command in commands:
            if isinstance(command, Start):
                assert not state.live
                assert (command.token, command.checkpoint) == (state.token + 1, state.checkpoint)
            if isinstance(command, Stop):
                assert (state.live, command.token) == (True, state.token)
            if isinstance(command, Finish):
                assert not state.live
        assert commands in ([], [pending_command(state)]), "a loop that adopts the run does what this one was told"
        assert (pending_command(state) is None) == (state.status in ENDED or (state.live and state.stopping == "no"))


# -- a world in which the commands are performed, and the loop is killed --------------------------------------------------------------


@dataclass
class World:
    """A ledger, an engine and a loop. Attempt `n` does `script[n - 1]`; people ask for `stops` when the ledger has that many events."""

    script: list[tuple[int, str]]
    stops: Mapping[int, str]
    kills: frozenset[int]
    max_restarts: int
    events: list[Draft] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    told: str = ""
    done: int = 0

    def live(self) -> set[int]:
        """Attempts that run, as the engine sees it."""
        ended = {happened.payload["token"] for happened in self.events if happened.kind == "attempt.ended"}
        return {start.token for start in self.starts} - ended

    def run(self) -> RunState:
        """Drive the run to its end."""
        state, todo = self._append(RunState("train-1"), event("run.created", max_restarts=self.max_restarts))
        for _ in range(200):
            if state.status in ENDED:
                return state
            if len(self.events) in self.stops and self.events[-1].kind != "stop.requested":
                state, todo = self._append(state, event("stop.requested", how=self.stops[len(self.events)]))
            if len(self.events) in self.kills:  # the loop forgets all but the ledger, and another one adopts the run
                state = RunState("train-1")
                for happened in self.events:
                    state, _ = advance(state, happened)
                command = pending_command(state)
                todo = [command] if command else []
            state, todo = self._perform(state, todo[0]) if todo else self._work(state)
            assert len(self.live()) <= 1
        raise AssertionError("the run does not end")

    def _append(self, state: RunState, happened: Draft) -> tuple[RunState, list[Command]]:
        self.events.append(happened)
        return advance(state, happened)

    def _perform(self, state: RunState, command: Command) -> tuple[RunState, list[Command]]:
        if isinstance(command, Finish):
            return self._append(state, event("run.finished", status=command.status))
        if isinstance(command, Stop):
            assert command.token in self.live()
            self.told = command.how
            return self._work(state)
        assert self.live() == set()
        self.starts.append(command)
        self.done, self.told = 0, ""
        return self._append(state, event("attempt.started", token=command.token))

    def _work(self, state: RunState) -> tuple[RunState, list[Command]]:
        checkpoints, end = self.script[min(state.token, len(self.script)) - 1]
        if self.told:
            return self._append(state, event("attempt.ended", token=state.token, status="stopped"))
        if self.done < checkpoints:
            self.done += 1
            return self._append(state, event("checkpoint.committed", token=state.token, step=10 * state.token + self.done))
        status = "succeeded" if end == "succeeded" else "failed"
        return self._append(state, event("attempt.ended", token=state.token, status=status, failure=None if end == status else end))


COUNTED = {failure: again for failure, again in FAILURES.items() if failure != "preempted"}  # that may happen without end
SCRIPT = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["succeeded", *COUNTED])), min_size=1, max_size=5)
STOPS = st.dictionaries(st.integers(1, 12), st.sampled_from(["stop", "cancel"]), max_size=2)


@settings(max_examples=300)
@given(script=SCRIPT, stops=STOPS, kills=st.frozensets(st.integers(1, 25)), max_restarts=st.integers(0, 3))
def test_kills_of_the_loop_change_nothing(
    script: list[tuple[int, str]], stops: dict[int, str], kills: frozenset[int], max_restarts: int
) -> None:
    undisturbed = World(script, stops, frozenset(), max_restarts)
    killed = World(script, stops, kills, max_restarts)
    end = undisturbed.run()
    assert killed.run() == end
    assert killed.events == undisturbed.events
    assert killed.starts == undisturbed.starts
    assert end.status in ENDED
    assert [start.token for start in killed.starts] == list(range(1, len(killed.starts) + 1))
    assert len(killed.starts) <= max_restarts + 1
    steps = [happened.payload for happened in killed.events if happened.kind == "checkpoint.committed"]
    for start in killed.starts:
        newest = [step for step in steps if step["token"] < start.token]
        assert start.checkpoint == (newest[-1] if newest else None)


@pytest.mark.parametrize(("failure", "again"), COUNTED.items())
def test_a_failure_is_tried_again_where_that_can_help(failure: str, again: bool) -> None:
    state = World([(1, failure), (0, "succeeded")], {}, frozenset(), 1).run()
    assert state.status == ("succeeded" if again else "failed")
    assert state.restarts == int(again)


def test_a_run_goes_on_from_what_it_was_made_with() -> None:
    checkpoint = {"step": 40}
    state, commands = advance(RunState("train-2"), event("run.created", max_restarts=0, resume=checkpoint))
    assert commands == [Start(1, checkpoint)]
    assert state.max_restarts == 0


def after(*events: Draft) -> tuple[RunState, list[Command]]:
    """The state after `events`, and the commands of the last."""
    state, commands = RunState("train-1"), list[Command]()
    for happened in events:
        state, commands = advance(state, happened)
    return state, commands


STARTED = (event("run.created", max_restarts=1), event("attempt.started", token=1))


@pytest.mark.parametrize("end", [{"status": "stopped"}, {"status": "failed", "failure": "preempted"}])
def test_a_preempted_attempt_is_no_restart_when_it_left_a_checkpoint(end: dict[str, str]) -> None:
    state, commands = after(*STARTED, event("checkpoint.committed", token=1, step=7), event("attempt.ended", token=1, **end))
    assert (commands, state.restarts) == ([Start(2, state.checkpoint)], 0)
    again = (event("attempt.started", token=2), event("attempt.ended", token=2, **end))
    for happened in again:
        state, commands = advance(state, happened)
    assert (commands, state.restarts) == ([Start(3, state.checkpoint)], 1), "without a new checkpoint it is one"


def test_ranks_that_were_replaced_in_place_count_but_a_change_of_size_does_not() -> None:
    replaced = event("attempt.restarted", token=1, failure="worker_lost", generation=1)
    state, commands = after(*STARTED, event("attempt.restarted", token=1, failure="resize", generation=1), replaced)
    assert (commands, state.restarts, state.live) == ([], 1, True)
    state, commands = advance(state, event("attempt.ended", token=1, status="failed", failure="worker_lost"))
    assert isinstance(commands[0], Finish)


def test_the_same_crash_at_the_same_step_in_the_next_attempt_is_the_end() -> None:
    first = event("attempt.ended", token=1, status="failed", failure="worker_lost", message="rank 1", signal="SIGSEGV", step=9)
    second = (event("attempt.started", token=2), Draft("attempt.ended", "train-1", {**first.payload, "token": 2}))
    _, commands = after(event("run.created", max_restarts=9), STARTED[1], first, *second)
    (finish,) = commands
    assert isinstance(finish, Finish)
    assert finish.failure == "crash_loop"
    assert "the second SIGSEGV at step 9" in finish.message
    later = Draft("attempt.ended", "train-1", {**second[1].payload, "step": 10})
    assert isinstance(after(event("run.created", max_restarts=9), STARTED[1], first, second[0], later)[1][0], Start)


def test_a_machine_that_was_lost_is_remembered() -> None:
    lost = event("attempt.ended", token=1, status="failed", failure="node_lost", node="n7")
    assert after(*STARTED, lost)[0].excluded == ("n7",)


def test_every_class_has_a_policy_in_words() -> None:
    assert {policy.act for policy in POLICIES.values()} == {"stop", "restart", "requeue", "record"}
    assert all(policy.what for policy in POLICIES.values())
