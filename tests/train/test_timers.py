"""Timers: a step's spans never overlap and sum to its time, and rows say so in few bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.train.timers import ROW_ENTRIES, SPANS, Timers


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s

    def go(self, duration_s: float) -> None:
        self.now_s += duration_s


def seconds(row: dict[str, Any]) -> dict[str, float]:
    return {name: sum(values) / 1e6 for name, values in row["spans"].items()}


def test_what_is_in_no_span_is_the_users_own() -> None:
    clock = Clock()
    timers = Timers(clock)
    clock.go(0.001)
    with timers.span("compute"):
        clock.go(0.004)
    timers.end_step(1)
    (row,) = timers.drain(last=True)
    assert seconds(row) == pytest.approx({"host": 0.001, "compute": 0.004})
    assert (row["step"], row["steps"], row["per"], row["micro_batches"]) == (1, 1, 1, 1)


def test_an_inner_span_stops_the_one_around_it() -> None:
    clock = Clock()
    timers = Timers(clock)
    with timers.span("communication"):
        clock.go(0.002)
        with timers.span("compute"):
            clock.go(0.005)
            with timers.span("compute"):
                clock.go(0.001)
        clock.go(0.003)
    timers.end_step(1, micro_batches=8)
    (row,) = timers.drain(last=True)
    assert seconds(row) == pytest.approx({"communication": 0.005, "compute": 0.006})
    assert row["micro_batches"] == 8


def test_a_span_is_closed_when_the_code_in_it_fails() -> None:
    clock = Clock()
    timers = Timers(clock)
    with pytest.raises(ZeroDivisionError), timers.span("input"):
        clock.go(0.001)
        raise ZeroDivisionError
    clock.go(0.002)
    timers.end_step(1)
    assert seconds(timers.drain(last=True)[0]) == pytest.approx({"input": 0.001, "host": 0.002})


def test_what_is_learned_later_is_moved_but_never_more_than_there_was() -> None:
    clock = Clock()
    timers = Timers(clock)
    with timers.span("compute"):
        clock.go(0.010)
    assert timers.spent_s("compute") == pytest.approx(0.010)
    timers.move("compute", "communication", 0.004)
    timers.move("compute", "communication", 9.0)
    timers.end_step(1)
    assert seconds(timers.drain(last=True)[0]) == pytest.approx({"communication": 0.010})


def test_an_unknown_span_is_refused() -> None:
    with pytest.raises(KeyError):
        Timers().span("compyute")


def test_a_row_comes_once_a_second_and_sums_up_fast_steps() -> None:
    clock = Clock()
    timers = Timers(clock)
    rows = []
    for step in range(1, 3001):
        with timers.span("compute"):
            clock.go(0.0009 if step != 1500 else 0.2)
        clock.go(0.0001)
        timers.end_step(step)
        rows += timers.drain()
    rows += timers.drain(last=True)
    assert len(rows) <= 5
    assert sum(row["steps"] for row in rows) == 3000
    assert max(row["longest"] for row in rows) == pytest.approx(200_100, abs=2)
    for row in rows:
        entries = -(-row["steps"] // row["per"])
        assert entries <= ROW_ENTRIES
        assert {len(values) for values in row["spans"].values()} == {entries}
        assert len(json.dumps(row)) < 800


def test_a_loop_begins_with_a_row_of_its_own_for_what_was_before() -> None:
    clock = Clock()
    timers = Timers(clock)
    clock.go(2.0)
    timers.begin()
    with timers.span("compute"):
        clock.go(0.5)
    timers.end_step(1)
    clock.go(0.25)
    before, stepped, after = timers.drain(last=True)
    assert before["start"] and before["steps"] == 0 and seconds(before) == {"host": 2.0}
    assert seconds(stepped) == {"compute": 0.5} and stepped["since"] == 250_000
    assert after["steps"] == 0 and seconds(after) == {"host": 0.25}
    clock.go(0.1)
    timers.begin()
    assert "start" not in timers.drain(last=True)[0], "a second loop of the same process is no restart"


def test_counters_and_time_without_a_processor_are_written_as_growth() -> None:
    clock, counted, delayed = Clock(), {"read_bytes": 100.0}, [5.0]
    timers = Timers(clock, counters=lambda: dict(counted), delay=lambda: delayed[0])
    for step in (1, 2):
        clock.go(0.6)
        delayed[0] += 0.01 * step
        counted["read_bytes"] += 7
        timers.end_step(step)
    (row,) = timers.drain()
    assert row["counters"] == {"read_bytes": 14.0}
    assert row["delay"] == [10_000, 20_000]
    clock.go(1.1)
    timers.end_step(3)
    (row,) = timers.drain()
    assert row["counters"] == {"read_bytes": 0.0} and "delay" not in row


class Event:
    """An event of a device that is always `behind` the host."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.at_s = clock, 0.0

    def record(self) -> None:
        self.at_s = self.clock.now_s

    def query(self) -> bool:
        return self.clock.now_s > self.at_s + 0.5

    def elapsed_time(self, end_event: Event) -> float:
        return 1e3 * (end_event.at_s - self.at_s)


def test_events_of_a_device_are_asked_only_when_it_is_past_them_and_used_again() -> None:
    clock = Clock()
    made: list[Event] = []

    def event() -> Event:
        made.append(Event(clock))
        return made[-1]

    timers = Timers(clock, event=event)
    rows = []
    for step in range(1, 31):
        clock.go(0.02)
        with timers.span("compute"):
            clock.go(0.08)
        timers.end_step(step)
        rows += timers.drain()
    clock.go(1.0)
    rows += timers.drain(last=True)
    assert rows[0]["device"]["steps"] < rows[0]["steps"], "those of the last half second were still under way"
    assert sum(row["device"]["busy"] for row in rows) == pytest.approx(30 * 80_000, rel=0.01)
    assert sum(row["device"]["idle"] for row in rows) == pytest.approx(29 * 20_000, rel=0.01)
    assert len(made) < 40


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((*SPANS, "end", "drain", "begin")), st.integers(0, 900_000)), max_size=60))
def test_rows_account_for_every_microsecond(script: list[tuple[str, int]]) -> None:
    clock = Clock()
    timers = Timers(clock)
    rows, steps = [], 0
    for what, duration_us in script:
        if what == "end":
            steps += 1
            timers.end_step(steps)
        elif what == "drain":
            rows += timers.drain()
        elif what == "begin":
            timers.begin()
        else:
            with timers.span(what):
                clock.go(duration_us / 1e6)
    rows += timers.drain(last=True)
    assert sum(sum(seconds(row).values()) for row in rows) == pytest.approx(clock.now_s - 50.0, abs=1e-6 * (len(script) + 1) * len(SPANS))
    assert sum(row["steps"] for row in rows) == steps
