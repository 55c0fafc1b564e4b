"""What-if analysis, against traces whose cause and cost are known because they were made."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from bedplate.core.errors import BedplateError
from bedplate.train.doctor.trace import trace_of
from bedplate.train.doctor.what_if import what_if
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
