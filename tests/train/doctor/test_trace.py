"""Reading step traces from tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from bedplate.core.errors import BedplateError
from bedplate.train.doctor.trace import BACKWARD, FORWARD, OTHER, OTHER_NAMES, RECEIVE, SEND, SYNC, read_trace, trace_of
from bedplate.train.doctor.what_if import what_if
from train.step_traces import synthetic


def small(**columns: list[object]) -> pa.Table:
    given = {
        "worker": ["a", "b"], "stage": [0, 1], "microbatch": [0, 0], "operation": ["forward", "forward"],
        "start": [0.0, 1.0], "end": [1.0, 2.0],
    }  # fmt: skip
    return pa.table({**given, **columns})


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    table, _ = synthetic(2, 2, 3, 4, slow={1: 1.5})
    pyarrow.parquet.write_table(table, tmp_path / "trace.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "trace.csv")
    found = [what_if(read_trace(tmp_path / name)) for name in ("trace.parquet", "trace.csv")]
    assert found[0].slowdown == pytest.approx(found[1].slowdown)
    assert found[0].workers[0].name == found[1].workers[0].name == "1"


def test_names_of_operations_are_understood() -> None:
    names = ["Forward-Compute", "bwd", "forward_send", "backward-recv", "grads-sync", "params all-gather", "optimizer"]
    count = len(names)
    table = small(
        worker=["a"] * count, stage=[0] * count, microbatch=[0] * count, operation=names,
        start=[float(each) for each in range(count)], end=[each + 1.0 for each in range(count)],
    )  # fmt: skip
    trace = trace_of(table)
    assert [int(kind) for kind in trace.kind] == [FORWARD, BACKWARD, SEND, RECEIVE, SYNC, SYNC, OTHER]


def test_columns_go_by_other_names_and_replicas_are_numbered() -> None:
    table = small().rename_columns(["rank", "pp_rank", "micro_batch", "op", "begin", "finish"])
    trace = trace_of(table)
    assert trace.workers == ("a", "b")
    assert trace.replica.tolist() == [0, 0], "the first worker of each stage"
    wide = trace_of(small(stage=[0, 0]))
    assert wide.replica.tolist() == [0, 1]
    assert trace_of(small(dp_rank=[3, 3], iteration=[7, 8])).step.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (small().drop_columns(["end"]), "no such column"),
        (small(end=[-1.0, 2.0]), "ends before it starts"),
        (small(end=[None, 2.0]), "without a time"),
        (small(start=["early", "late"]), "no number of seconds"),
        (small().slice(0, 0), "no rows"),
    ],
)
def test_what_is_no_trace_is_refused(table: pa.Table, said: str) -> None:
    with pytest.raises(BedplateError, match=said):
        trace_of(table)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.parquet").write_text("this is no parquet")
    with pytest.raises(BedplateError, match="cannot be read"):
        read_trace(tmp_path / "trace.parquet")
    with pytest.raises(BedplateError, match=r"\.parquet or a \.csv"):
        read_trace(tmp_path / "trace.json")


def test_rows_are_put_in_order_of_worker_and_start_whatever_the_order_of_the_file() -> None:
    count = 4
    trace = trace_of(
        small(
            worker=["b", "a", "b", "a"], stage=[1, 0, 1, 0], microbatch=[1, 1, 0, 0], operation=["forward"] * count,
            start=[3.0, 1.0, 2.0, 0.0], end=[4.0, 2.0, 3.0, 1.0],
        )
    )  # fmt: skip
    assert trace.worker.tolist() == [0, 0, 1, 1]
    assert trace.start_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert trace.end_s.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert trace.micro_batch.tolist() == [0, 1, 0, 1]


def test_steps_come_before_workers_in_the_order() -> None:
    trace = trace_of(small(worker=["a", "b"], step=[1, 0]))
    assert trace.step.tolist() == [0, 1]
    assert [trace.workers[each] for each in trace.worker] == ["b", "a"]


@pytest.mark.parametrize(
    ("name", "backwards"),
    [("backward-send", True), ("bwd_recv", True), ("grads-sync", True), ("forward-send", False), ("params-sync", False)],
)
def test_what_carries_gradients_is_marked(name: str, backwards: bool) -> None:
    assert trace_of(small(operation=[name, name])).backwards.tolist() == [backwards, backwards]


def test_workers_with_numbers_keep_the_order_of_numbers_not_of_words() -> None:
    assert trace_of(small(worker=[10, 9])).workers == ("9", "10")
    far = trace_of(small(worker=[2**40, 7]))
    assert far.workers == ("7", str(2**40)), "numbers too far apart for a table of them"


def test_names_of_columns_may_have_capitals_and_spaces() -> None:
    table = small().rename_columns(["Worker", "Pipeline Stage", "Micro Batch", "Operation", "Start", "End"])
    assert trace_of(table).end_s.tolist() == [1.0, 2.0]


def test_a_missing_column_is_told_with_those_that_are_there() -> None:
    with pytest.raises(BedplateError) as caught:
        trace_of(small().drop_columns(["stage"]))
    assert "stage" in str(caught.value) and "worker, microbatch, operation, start, end" in str(caught.value)


def test_a_worker_of_several_stages_is_one_replica_at_its_first() -> None:
    trace = trace_of(
        small(
            worker=["a", "a", "b", "b"], stage=[0, 2, 1, 3], microbatch=[0] * 4, operation=["forward"] * 4,
            start=[0.0, 2.0, 1.0, 3.0], end=[1.0, 3.0, 2.0, 4.0],
        )
    )  # fmt: skip
    assert trace.replica.tolist() == [0, 0, 0, 0]
    assert trace.stage.tolist() == [0, 2, 1, 3]


def test_whole_seconds_are_times_and_operations_of_no_length_are_allowed() -> None:
    trace = trace_of(small(start=[0, 1], end=[0, 3]))
    assert (trace.end_s - trace.start_s).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_times_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(BedplateError, match="without a time"):
        trace_of(small(end=[1.0, bad]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("worker,stage,microbatch,operation,start,end\n", "no rows"),
        ("worker,stage,operation,start,end\na,0,forward,0,1\n", "microbatch"),
        ("worker,stage,microbatch,operation,start,end\na,0,0,forward,0\n", "cannot be read"),
        ("worker,stage,microbatch,operation,start,end\na,0,0,forward,soon,1\n", "no number of seconds"),
        ("worker,stage,microbatch,operation,start,end\na,0,0,forward,,1\n", "without a time"),
        ("worker,stage,microbatch,operation,start,end\na,0,0,forward,2,1\n", "ends before it starts"),
        ("worker;stage;microbatch;operation;start;end\na;0;0;forward;0;1\n", "no such column"),
    ],
)
def test_a_csv_that_is_no_trace_is_refused_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(BedplateError, match=said):
        read_trace(path)


def test_a_parquet_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    pyarrow.parquet.write_table(small(), path)
    whole = path.read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BedplateError, match="cannot be read"):
            read_trace(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("F", FORWARD), ("fwd", FORWARD), ("FWD compute", FORWARD), ("forward", FORWARD),
        ("b", BACKWARD), ("Backward", BACKWARD), ("bwd-input", BACKWARD),
        ("fwd send", SEND), ("SEND_backward", SEND), ("Forward-Recv", RECEIVE), ("receive_backward", RECEIVE),
        ("reduce-scatter", SYNC), ("all-gather", SYNC), ("broadcast", SYNC), ("barrier", SYNC), ("grads-all-reduce", SYNC),
        ("optimizer", OTHER), ("data_load", OTHER), ("fast", OTHER), ("before", OTHER),
    ],
)  # fmt: skip
def test_each_way_to_write_an_operation(name: str, kind: int) -> None:
    assert trace_of(small(operation=[name, name])).kind.tolist() == [kind, kind]


def test_micro_batches_may_be_missing_where_an_operation_has_none() -> None:
    trace = trace_of(small(microbatch=[None, 3]))
    assert trace.micro_batch.tolist() == [0, 1]
    assert trace_of(small(microbatch=["m2", "m1"])).micro_batch.tolist() == [1, 0]


def test_workers_stages_and_steps_are_numbered_without_gaps_in_their_order() -> None:
    trace = trace_of(small(worker=[700, 30], stage=[90, 4], step=[12, 11]))
    assert trace.workers == ("30", "700")
    assert trace.worker.tolist() == [0, 1] and trace.stage.tolist() == [0, 1] and trace.step.tolist() == [0, 1]


def test_the_name_that_is_wanted_wins_over_another_name_of_the_same_column() -> None:
    table = small(ts=[100.0, 200.0], name=["x", "y"])
    trace = trace_of(table)
    assert trace.start_s.tolist() == [0.0, 1.0]
    assert trace.names == ("forward",)


@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_every_other_name_of_a_column_is_taken(name: str) -> None:
    given = small(step=[0, 1], replica=[1, 0])
    expected = trace_of(given)
    for other in OTHER_NAMES[name]:
        renamed = trace_of(given.rename_columns([other.upper() if each == name else each for each in given.column_names]))
        assert renamed.worker.tolist() == expected.worker.tolist()
        assert (renamed.step.tolist(), renamed.replica.tolist()) == ([0, 1], [1, 0])
        assert renamed.end_s.tolist() == [1.0, 2.0]
