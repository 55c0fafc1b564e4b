"""What-if analysis, against traces whose cause and cost are known because they were made."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import BedplateError
from bedplate.train.doctor.trace import trace_of
from bedplate.train.doctor.what_if import WhatIf, what_if
from train.step_traces import order, synthetic


def test_a_run_without_stragglers_is_as_fast_as_its_ideal() -> None:
    table, took_s = synthetic(4, 3, 8, 5, jitter=0.0)
    found = what_if(trace_of(table))
    assert found.slowdown == pytest.approx(1.0)
    assert found.played_s == pytest.approx(took_s)
    assert found.observed_s == pytest.approx(took_s)
    assert all(each.slowdown == pytest.approx(1.0) for each in (*found.workers, *found.stages, *found.parts))


@pytest.mark.parametrize("send_s", [0.0, 0.003])
def test_the_graph_explains_the_observed_time(send_s: float) -> None:
    table, took_s = synthetic(4, 2, 6, 10, jitter=0.1, slow={3: 1.7})
    assert what_if(trace_of(table)).played_s == pytest.approx(took_s)
    if send_s:
        late, took_late_s = synthetic(4, 2, 6, 10, jitter=0.0, send_s=send_s)
        assert what_if(trace_of(late)).played_s < took_late_s, "sends that the trace does not have cannot be played"


def test_a_slow_worker_accounts_for_all_that_is_lost() -> None:
    table, took_s = synthetic(4, 3, 8, 6, jitter=0.0, slow={6: 1.5})
    _, healthy_s = synthetic(4, 3, 8, 6, jitter=0.0)
    found = what_if(trace_of(table))
    worst, *others = found.workers
    assert worst.name == "6"
    assert worst.share == pytest.approx(1.0, abs=0.15)
    assert worst.gain_s == pytest.approx(took_s - healthy_s, rel=0.1)
    assert all(other.slowdown < 1.001 for other in others)
    assert found.stages[0].name == "2"
    assert found.parts[0].name == "compute"


def test_an_oversized_last_stage_is_blamed_rather_than_its_workers() -> None:
    table, _ = synthetic(4, 3, 8, 6, jitter=0.0, stage_factor={3: 1.4})
    found = what_if(trace_of(table))
    assert found.stages[0].name == "3"
    assert found.stages[0].gain_s > 10 * max(0.001, max(worker.gain_s for worker in found.workers)), "one of three alone gains nothing"
    assert {worker.name for worker in found.workers[:3]} == {"3", "7", "11"}


def test_what_a_worker_costs_equals_playing_the_run_without_it() -> None:
    """The exact shortcut (replicas touch only at the end of a step) against whole traces with that worker made ideal."""
    table, _ = synthetic(3, 3, 4, 5, seed=4, jitter=0.2, slow={1: 1.3, 5: 1.5})
    found = what_if(trace_of(table))
    operation = table.column("operation").to_numpy(zero_copy_only=False)
    lengths = table.column("end").to_numpy() - table.column("start").to_numpy()
    worker = table.column("worker").to_numpy()
    usual = {name: lengths[operation == name].mean() for name in ("forward", "backward")}
    for blamed in ("1", "5", "0"):
        made = np.where(worker == int(blamed), [usual.get(name, 0.0) for name in operation], lengths)
        assert blamed_gain(found.played_s, table, made) == pytest.approx(
            next(w.gain_s for w in found.workers if w.name == blamed), abs=1e-9
        )


def blamed_gain(played_s: float, table: pa.Table, lengths: np.ndarray) -> float:
    """Play the graph operation by operation with other lengths; what that gains."""
    step, stage = table.column("step").to_numpy(), table.column("stage").to_numpy()
    worker, index = table.column("worker").to_numpy(), table.column("microbatch").to_numpy()
    names = table.column("operation").to_numpy(zero_copy_only=False)
    stages, total = int(stage.max()) + 1, 0.0
    for each in np.unique(step):
        mine = step == each
        length = {(w, n, m): value for w, n, m, value in zip(worker[mine], names[mine], index[mine], lengths[mine], strict=True)}
        ends = np.zeros(stages)
        for replica in range(int(worker.max()) // stages + 1):
            ends = np.maximum(
                ends, finish(stages, int(index.max()) + 1, {(w - replica * stages, n, m): v for (w, n, m), v in length.items()})
            )
        total += float(ends.max()) + 0.01  # the synchronization, which is the same for all
    return played_s - total


def finish(stages: int, micro_batches: int, length: dict[tuple[int, str, int], float]) -> np.ndarray:
    orders, done, free = [order(stage, stages, micro_batches) for stage in range(stages)], {}, np.zeros(stages)
    at = [0] * stages
    while any(place < len(each) for place, each in zip(at, orders, strict=True)):
        for stage in range(stages):
            while at[stage] < len(orders[stage]):
                kind, index = orders[stage][at[stage]]
                need = (kind, stage - 1 if kind == "forward" else stage + 1, index)
                if kind == "backward" and stage == stages - 1:
                    need = ("forward", stage, index)
                if not (kind == "forward" and stage == 0) and need not in done:
                    break
                free[stage] = done[kind, stage, index] = max(free[stage], done.get(need, 0.0)) + length[stage, kind, index]
                at[stage] += 1
    return free


def test_a_slow_synchronization_is_blamed_on_it() -> None:
    table, _ = synthetic(2, 4, 4, 20, jitter=0.0)
    name, end = table.column("operation"), table.column("end").to_numpy().copy()
    late = (name.to_numpy(zero_copy_only=False) == "grads-sync") & (table.column("step").to_numpy() % 4 == 0)
    end[late] += 0.05
    found = what_if(trace_of(table.set_column(table.schema.get_field_index("end"), "end", pa.array(end))))
    assert found.parts[0].name == "synchronization"
    assert found.parts[0].gain_s == pytest.approx(5 * 0.05, rel=0.05)


def test_sends_between_stages_are_played_and_blamed() -> None:
    """Two stages, one micro-batch: the second stage's forward begins when what it receives is there."""
    rows = [
        ("a", 0, "forward", 0.0, 1.0), ("a", 0, "forward-send", 1.0, 1.5), ("b", 1, "forward-recv", 0.0, 1.5),
        ("b", 1, "forward", 1.5, 2.5), ("b", 1, "backward", 2.5, 3.5), ("b", 1, "backward-send", 3.5, 3.6),
        ("a", 0, "backward-recv", 3.5, 3.6), ("a", 0, "backward", 3.6, 4.6),
    ]  # fmt: skip
    worker, stage, operation, start, end = zip(*rows, strict=True)
    found = what_if(
        trace_of(pa.table({"worker": worker, "stage": stage, "microbatch": [0] * 8, "operation": operation, "start": start, "end": end}))
    )
    assert found.played_s == pytest.approx(4.6)
    assert found.ideal_s == pytest.approx(4.0 + 2 * 0.3), "the median of the two transfers"


def test_a_worker_with_several_stages_is_one_worker() -> None:
    """Interleaved: a has the stages 0 and 2, b has 1 and 3."""
    rows, now = [], 0.0
    for name, stage, kind in [
        ("a", 0, "forward"), ("b", 1, "forward"), ("a", 2, "forward"), ("b", 3, "forward"),
        ("b", 3, "backward"), ("a", 2, "backward"), ("b", 1, "backward"), ("a", 0, "backward"),
    ]:  # fmt: skip
        length = (2.0 if name == "b" else 1.0) * (2 if kind == "backward" else 1)
        rows.append((name, stage, kind, now, now + length))
        now += length
    worker, stage, operation, start, end = zip(*rows, strict=True)
    table = pa.table({"worker": worker, "stage": stage, "microbatch": [0] * 8, "operation": operation, "start": start, "end": end})
    found = what_if(trace_of(table))
    assert found.played_s == pytest.approx(now)
    assert found.workers[0].name == "b"
    assert len(found.workers) == 2 and len(found.stages) == 4


def test_a_trace_without_forwards_or_in_a_circle_is_refused() -> None:
    table, _ = synthetic(2, 1, 2, 1)
    renamed = table.set_column(table.schema.get_field_index("operation"), "operation", pa.array(["optimizer"] * table.num_rows))
    with pytest.raises(BedplateError, match="no forward and no backward"):
        what_if(trace_of(renamed))
    rows = {
        "worker": ["a", "a"],
        "stage": [1, 0],
        "microbatch": [0, 0],
        "operation": ["forward"] * 2,
        "start": [0.0, 1.0],
        "end": [1.0, 2.0],
    }
    with pytest.raises(BedplateError, match="in a circle"):
        what_if(trace_of(pa.table(rows)))


def test_what_it_says_as_json_has_every_number() -> None:
    table, _ = synthetic(2, 2, 4, 3, slow={0: 1.4})
    told = what_if(trace_of(table)).to_json()
    assert told["slowdown"] == told["played_s"] / told["ideal_s"]
    assert set(told["workers"][0]) == {"name", "slowdown", "share", "gain_s"}
    assert told["steps"] == 3


def traced(*rows: tuple[str, int, int, str, float, float]) -> WhatIf:
    """Rows are worker, step, stage, operation, start and end; all of one micro-batch."""
    names = ("worker", "step", "stage", "operation", "start", "end")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return what_if(trace_of(pa.table({**columns, "microbatch": [0] * len(rows)})))


def blames(found: WhatIf, kind: str) -> dict[str, tuple[float, float, float]]:
    """Of each: its own slowdown, its part of what is lost, and the seconds that it would gain."""
    return {blame.name: (blame.slowdown, blame.share, blame.gain_s) for blame in getattr(found, kind)}


def test_two_copies_by_hand() -> None:
    """a takes 1 s and b 3 s, so that 2 s are ideal: all of the second that is lost is b's, and a can give nothing back."""
    found = traced(("a", 0, 0, "forward", 0.0, 1.0), ("b", 0, 0, "forward", 0.0, 3.0))
    assert (found.observed_s, found.played_s, found.ideal_s, found.slowdown) == (3.0, 3.0, 2.0, 1.5)
    assert blames(found, "workers") == {"b": (1.5, 1.0, 1.0), "a": (1.0, 0.0, 0.0)}
    assert blames(found, "stages") == {"0": (1.5, 1.0, 1.0)}
    assert blames(found, "parts")["compute"] == (1.5, 1.0, 1.0)


def test_a_copy_that_is_second_slowest_limits_what_the_slowest_can_gain() -> None:
    """1 s, 4 s and 4.6 s: 3.2 s are ideal, and without the slowest the run still waits for the second."""
    found = traced(*((name, 0, 0, "forward", 0.0, end) for name, end in (("a", 1.0), ("b", 4.0), ("c", 4.6))))
    gains = {name: gain for name, (_, _, gain) in blames(found, "workers").items()}
    assert gains == pytest.approx({"c": 0.6, "b": 0.0, "a": 0.0})
    assert found.ideal_s == pytest.approx(3.2)
    assert [blame.name for blame in found.workers] == ["c", "b", "a"]


def test_a_pipeline_of_two_stages_by_hand() -> None:
    """Forward takes 1 and 3 s, backward 2 and 4 s, one after the other: even stages would take as long, and nothing is lost."""
    found = traced(
        ("a", 0, 0, "forward", 0.0, 1.0), ("b", 0, 1, "forward", 1.0, 4.0),
        ("b", 0, 1, "backward", 4.0, 8.0), ("a", 0, 0, "backward", 8.0, 10.0),
    )  # fmt: skip
    assert (found.played_s, found.ideal_s) == (10.0, 10.0)
    assert blames(found, "stages") == {"1": (1.2, 0.0, 2.0), "0": (0.8, 0.0, -2.0)}, "1 alone: 2 + 3 + 4 + 3 s"


def test_what_a_worker_does_besides_delays_what_comes_after_it() -> None:
    """The optimizer of a is on the way of its second forward; b's is not there."""
    found = traced(
        ("a", 0, 0, "optimizer", 0.0, 2.0), ("a", 0, 0, "forward", 2.0, 3.0), ("b", 0, 0, "forward", 0.0, 1.0),
    )  # fmt: skip
    assert (found.played_s, found.ideal_s) == (3.0, 3.0), "an operation of a kind of its own is its own ideal"


def test_a_meeting_is_counted_from_the_last_that_came() -> None:
    """b comes after 3 s and the transfer takes half a second; a's 2 s of waiting are b's doing."""
    found = traced(
        ("a", 0, 0, "forward", 0.0, 1.0), ("b", 0, 0, "forward", 0.0, 3.0), ("a", 0, 0, "sync", 1.0, 3.5), ("b", 0, 0, "sync", 3.0, 3.5),
    )  # fmt: skip
    assert (found.observed_s, found.played_s, found.ideal_s) == (3.5, 3.5, 2.5)
    assert blames(found, "parts")["synchronization"] == (1.0, 0.0, 0.0)
    assert blames(found, "workers")["b"] == (1.4, 1.0, 1.0)


def test_of_meetings_the_median_is_ideal() -> None:
    """Transfers of 1, 1 and 4 s in three steps whose compute takes 1 s."""
    rows = []
    for step, (begin, transfer) in enumerate(((0.0, 1.0), (10.0, 1.0), (20.0, 4.0))):
        rows += [(each, step, 0, "forward", begin, begin + 1) for each in ("a", "b")]
        rows += [(each, step, 0, "sync", begin + 1, begin + 1 + transfer) for each in ("a", "b")]
    found = traced(*rows)
    assert (found.steps, found.observed_s, found.played_s, found.ideal_s) == (3, 9.0, 9.0, 6.0), "gaps between steps are no time of theirs"
    assert found.parts[0].name == "synchronization"
    assert blames(found, "parts") == {
        "synchronization": (1.5, 1.0, 3.0),
        "compute": (1.0, 0.0, 0.0),
        "sends between stages": (1.0, 0.0, 0.0),
    }


def test_a_worker_that_is_missing_in_a_step_is_not_blamed_for_it() -> None:
    """b takes part in the first of two steps only, and there it is slow: 4 s against 2 s; 2 s are the mean of 2, 4, 1 and 1."""
    found = traced(
        ("a", 0, 0, "forward", 0.0, 2.0), ("b", 0, 0, "forward", 0.0, 4.0),
        ("a", 1, 0, "forward", 4.0, 5.0), ("c", 1, 0, "forward", 4.0, 5.0),
    )  # fmt: skip
    assert (found.played_s, found.ideal_s) == (5.0, 4.0)
    assert blames(found, "workers")["b"] == (1.5, 2.0, 2.0), "with b alone as it was: 4 + 2 s"
    assert blames(found, "workers")["c"] == (1.0, 0.0, -1.0), "it was faster than the mean"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 1000), st.floats(0.5, 20))
def test_a_clock_of_another_unit_or_zero_changes_no_slowdown(
    stages: int, replicas: int, micro_batches: int, seed: int, factor: float
) -> None:
    table, took_s = synthetic(stages, replicas, micro_batches, 2, seed=seed, jitter=0.3)
    found = what_if(trace_of(table))
    assert found.played_s == pytest.approx(took_s)
    times = {name: pa.array(table.column(name).to_numpy() * factor + 1000.0) for name in ("start", "end")}
    other = what_if(trace_of(pa.table({**{name: table.column(name) for name in table.column_names}, **times})))
    assert other.played_s == pytest.approx(factor * found.played_s, rel=1e-6)
    assert other.slowdown == pytest.approx(found.slowdown, rel=1e-6)
    assert len(found.workers) == stages * replicas and len(found.stages) == stages
    assert [each.slowdown for each in found.workers] == sorted((each.slowdown for each in found.workers), reverse=True)
