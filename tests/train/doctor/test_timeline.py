"""Timers' rows as a Chrome trace."""

from __future__ import annotations

import json

from bedplate.train.doctor.timeline import chrome_trace

ROW = {
    "step": 4, "steps": 4, "per": 2, "micro_batches": 1, "longest": 1500, "since": 0,
    "spans": {"compute": [2000, 3000], "input": [500, 0]},
}  # fmt: skip


def test_spans_are_laid_end_to_end_up_to_the_end_of_their_row() -> None:
    trace = chrome_trace({0: [(100.0055, ROW)], 3: [(100.0055, ROW)]}, [(100.001, "checkpoint of step 2")])
    events = json.loads(json.dumps(trace))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X" and event["pid"] == 3]
    assert [(event["name"], event["ts"], event["dur"]) for event in spans] == [
        ("input", 0, 500),
        ("compute", 500, 2000),
        ("compute", 2500, 3000),
    ]
    assert [event["args"]["of"] for event in spans] == ["steps 1 to 2", "steps 1 to 2", "steps 3 to 4"]
    assert {event["args"]["name"] for event in events if event["ph"] == "M"} == {"rank 0", "rank 3", "training loop"}
    (mark,) = [event for event in events if event["ph"] == "i"]
    assert (mark["name"], mark["ts"]) == ("checkpoint of step 2", 1000.0)


def test_time_outside_of_steps_is_shown_as_such() -> None:
    row = {**ROW, "step": 0, "steps": 0, "per": 1, "spans": {"host": [7000]}}
    (span,) = [event for event in chrome_trace({0: [(10.0, row)]})["traceEvents"] if event["ph"] == "X"]
    assert span["args"]["of"] == "outside of steps"


def test_a_run_without_rows_is_an_empty_trace() -> None:
    assert chrome_trace({})["traceEvents"] == []


def test_a_later_row_of_another_rank_starts_later_than_the_first() -> None:
    row = {**ROW, "step": 1, "steps": 1, "per": 1, "spans": {"compute": [1_000_000]}}
    events = chrome_trace({0: [(11.0, row)], 1: [(12.5, row)]})["traceEvents"]
    starts = {event["pid"]: event["ts"] for event in events if event["ph"] == "X"}
    assert starts == {0: 0.0, 1: 1_500_000.0}


def test_spans_come_in_the_order_of_a_step_whatever_the_order_of_the_row() -> None:
    spans = {"checkpoint": [6], "optimizer": [5], "communication": [4], "compute": [3], "host": [2], "input": [1]}
    row = {**ROW, "step": 1, "steps": 1, "per": 1, "spans": spans}
    shown = [event for event in chrome_trace({0: [(1.0, row)]})["traceEvents"] if event["ph"] == "X"]
    assert [event["name"] for event in shown] == ["input", "host", "compute", "communication", "optimizer", "checkpoint"]
    assert [event["dur"] for event in shown] == [1, 2, 3, 4, 5, 6]


def test_a_last_entry_that_is_not_full_names_only_its_steps() -> None:
    row = {**ROW, "step": 13, "steps": 3, "per": 2, "spans": {"compute": [10, 20]}}
    shown = [event for event in chrome_trace({0: [(1.0, row)]})["traceEvents"] if event["ph"] == "X"]
    assert [event["args"]["of"] for event in shown] == ["steps 11 to 12", "step 13"]


def test_marks_alone_and_before_the_first_row_keep_their_distance() -> None:
    row = {**ROW, "step": 1, "steps": 1, "per": 1, "spans": {"compute": [1_000_000]}}
    marks = [(9.5, "start"), (11.0, "end")]
    shown = [event for event in chrome_trace({0: [(11.0, row)]}, marks)["traceEvents"] if event["ph"] == "i"]
    assert [(event["name"], event["ts"], event["s"]) for event in shown] == [("start", -500_000.0, "g"), ("end", 1_000_000.0, "g")]
