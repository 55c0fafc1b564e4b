"""The profiled window, on real operators."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bedplate.train.board import Board
from bedplate.train.context import RunContext, execute
from bedplate.train.profiling import COMPUTES, MOVES, TOP, VIEWS, ProfiledWindow, call_cost_us, chain_length, moves, summary, window_of
from bedplate.train.seat import Seat
from train.samples import attempt_in, flights_feed, journal_of, train


def test_a_window_sums_up_its_steps_and_says_what_it_cost(tmp_path: Path) -> None:
    window = ProfiledWindow(tmp_path / "profile", 0, steps=3, after=4)
    left, right = torch.randn(200, 200), torch.randn(200, 200)
    found = []
    for _ in range(12):
        for _ in range(5):
            torch.relu(left @ right)
        found.append(window.step())
    (body,) = [each for each in found if each is not None]
    assert found.index(body) == 6, "four steps pass, three are profiled"
    assert body["steps"] == 3 and not body["overlaps"]
    assert body["launches"] >= 10
    assert 0 < body["kernel_s"] < 1
    assert "aten::mm" in [name for name, _ in body["top"]]
    assert body["cost_s"] > 0 and body["slower"] >= 1
    assert "aten::mm" in {event["name"] for event in json.loads((tmp_path / "profile" / body["trace"]).read_text())["traceEvents"]}
    json.dumps(body)


def test_many_small_operators_are_told_from_few_large_ones(tmp_path: Path) -> None:
    small, large = torch.ones(1), torch.randn(400, 400)
    told = []
    for work in (lambda: [torch.neg(small) for _ in range(500)], lambda: [large @ large for _ in range(3)]):
        window = ProfiledWindow(tmp_path / str(len(told)), 0, steps=2, after=2)
        for _ in range(4):
            work()
            body = window.step()
        assert body is not None
        told.append(body)
    many, few = told
    assert many["launches"] * many["launch_s"] > 0.2 * many["kernel_s"]
    assert few["launches"] * few["launch_s"] < 0.2 * few["kernel_s"]


def kernel(name: str, start: float, duration: float, category: str = "kernel") -> dict[str, object]:
    return {"ph": "X", "cat": category, "name": name, "ts": start, "dur": duration, "args": {"grid": [64, 1, 1]}}


def test_kernels_of_a_device_are_counted_where_there_are_any() -> None:
    events = [
        kernel("cutlass_gemm", 0, 100), kernel("vectorized_elementwise_kernel", 100, 50), kernel("vectorized_elementwise_kernel", 150, 50),
        kernel("vectorized_elementwise_kernel", 200, 50), kernel("aten::linear", 0, 60, "cpu_op"), kernel("aten::mm", 10, 40, "cpu_op"),
    ]  # fmt: skip
    found = summary({"traceEvents": events}, steps=1)
    assert found["overlaps"]
    assert (found["launches"], found["kernel_s"]) == (4, pytest.approx(250e-6))
    assert found["launch_s"] == pytest.approx(60e-6 / 4), "an operator within another is not counted twice"
    assert found["memory_s"] == pytest.approx(150e-6)
    assert found["chain"] == pytest.approx(3.0)


def test_chains_are_of_kernels_that_move_the_same_elements() -> None:
    add, mm = ("aten::add", 0.0, 10.0, 100.0), ("aten::mm", 0.0, 10.0, 100.0)
    other = ("aten::mul", 0.0, 10.0, 7.0)
    assert chain_length([add, add, mm, add, add], 1.0) == 2.0
    assert chain_length([add, other, add], 1.0) == 1.0
    assert chain_length([mm], 1.0) == 1.0
    assert chain_length([add, add], 6.0) == 1.0, "too small to be bound by memory"


@pytest.mark.parametrize(
    ("name", "expected"), [("aten::add_", True), ("aten::addmm", False), ("layer_norm_kernel", True), ("sm90_gemm", False)]
)
def test_what_moves_is_told_by_its_name(name: str, expected: bool) -> None:
    assert moves(name) is expected


def test_calling_an_operator_costs_something() -> None:
    assert 0.05 < call_cost_us(50) < 10_000


def test_only_rank_0_of_a_job_that_asks_has_a_window(tmp_path: Path) -> None:
    plain = attempt_in(tmp_path / "a")
    asking = attempt_in(tmp_path / "b", profile={"steps": 2, "after": 3})
    assert window_of(plain, 0) is None
    assert window_of(asking, 1) is None
    window = window_of(asking, 0)
    assert window is not None
    assert [window.step() is None for _ in range(8)].count(False) == 1
    assert (asking.path / "profile" / "rank-0.trace.json").exists()


def test_the_step_that_writes_a_trace_is_no_hang_and_no_measure_of_the_next(tmp_path: Path) -> None:
    board, places = Board(1), []

    class Slow(ProfiledWindow):
        def step(self) -> Any:
            places.append(board.seat(0).standing().place)
            found = super().step()
            time.sleep(0.5 if found is not None else 0)  # as a large trace takes
            return found

    def function(run: RunContext) -> None:
        run._window = Slow(tmp_path / "profile", 0, steps=2, after=2)
        train(run)

    attempt = attempt_in(tmp_path)
    execute(attempt, flights_feed(), Seat(0, 1, board=board), function)
    assert set(places) == {"outside"}
    assert len(places) == 4  # when it was over it was asked no more
    assert board.seat(0).standing().longest_step_s < 0.5
    assert len(journal_of(attempt, "profile")) == 1


def operator(name: str, start: float, duration: float, *shapes: list[int]) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": name, "ts": start, "dur": duration, "args": {"Input Dims": list(shapes)}}


def told(*events: dict[str, Any], steps: int = 1) -> dict[str, Any]:
    return summary({"traceEvents": [*events]}, steps)


def test_without_a_device_the_operators_that_call_no_other_are_counted() -> None:
    found = told(
        operator("aten::linear", 0, 1e6, [8, 8]), operator("aten::t", 10, 5, [8, 8]), operator("aten::addmm", 100, 8e5, [8, 8]),
        operator("aten::relu", 2e6, 5e5, [8, 8]), operator("ProfilerStep#3", 0, 9e6),
    )  # fmt: skip
    assert not found["overlaps"]
    assert found["launches"] == 2
    assert [name for name, _ in found["top"]] == ["aten::addmm", "aten::relu"]
    assert found["kernel_s"] == pytest.approx(1.3, abs=0.05), "less what calling two operators costs"
    assert found["memory_s"] == pytest.approx(0.5)


def test_sums_are_of_one_step() -> None:
    events = [kernel("gemm", 1000.0 * number, 100) for number in range(6)]
    for steps in (1, 2, 3):
        found = told(*events, steps=steps)
        assert (found["launches"], found["kernel_s"]) == (6 / steps, pytest.approx(600e-6 / steps))
        assert found["top"] == [["gemm", pytest.approx(600e-6 / steps)]]


def test_kernels_at_the_same_time_on_two_streams_are_time_once() -> None:
    found = told(kernel("gemm", 0, 100), kernel("ncclAllReduce", 50, 100), kernel("gemm", 300, 50))
    assert found["kernel_s"] == pytest.approx(200e-6)
    assert dict(map(tuple, found["top"])) == {"gemm": pytest.approx(150e-6), "ncclAllReduce": pytest.approx(100e-6)}


def test_copies_and_fills_of_the_device_are_kernels_too() -> None:
    found = told(kernel("Memcpy HtoD", 0, 10, "gpu_memcpy"), kernel("Memset", 10, 5, "gpu_memset"), kernel("x", 20, 5, "cuda_runtime"))
    assert (found["launches"], found["memory_s"]) == (2, pytest.approx(15e-6))


def test_marks_without_a_duration_are_no_events() -> None:
    assert told({"ph": "i", "name": "mark", "ts": 3}, {"ph": "M", "name": "process_name"}, kernel("gemm", 0, 10))["launches"] == 1


def test_only_the_largest_are_named() -> None:
    found = told(*[kernel(f"gemm_{number:02}", 100.0 * number, 1.0 + number) for number in range(TOP + 8)])
    assert [name for name, _ in found["top"]] == [f"gemm_{number:02}" for number in range(TOP + 7, 7, -1)]


def test_an_empty_trace_has_nothing() -> None:
    found = told()
    assert (found["launches"], found["kernel_s"], found["memory_s"], found["chain"], found["top"]) == (0, 0, 0, 1.0, [])


@pytest.mark.parametrize("word", COMPUTES)
def test_what_computes_does_not_count_as_moving_even_when_it_adds(word: str) -> None:
    assert not moves(f"{word}_add_kernel")
    assert not moves(f"{word}_add_kernel".upper())


@pytest.mark.parametrize("word", MOVES)
def test_what_touches_each_element_moves(word: str) -> None:
    assert moves(f"void at::native::{word}_kernel<4>")


@pytest.mark.parametrize("view", sorted(VIEWS)[:6])
def test_a_view_within_an_operator_does_not_make_it_one_that_calls_others(view: str) -> None:
    found = told(operator("aten::mul", 0, 1000, [4]), operator(view, 10, 5, [4]))
    assert [name for name, _ in found["top"]] == ["aten::mul"]


@pytest.mark.parametrize(
    ("durations", "expected"), [([10.0], 1.0), ([10.0, 10.0], 2.0), ([10.0, 20.0, 30.0], 3.0), ([], 1.0), ([1.0, 1.0], 1.0)]
)
def test_the_length_of_one_chain(durations: list[float], expected: float) -> None:
    assert chain_length([("aten::add", 0.0, each, 64.0) for each in durations], 1.0) == expected


def test_the_length_of_chains_is_weighted_by_their_time() -> None:
    add, mm = ("aten::add", 0.0, 10.0, 64.0), ("aten::mm", 0.0, 99.0, 64.0)
    long = ("aten::mul", 0.0, 60.0, 64.0)
    # two of 10 together, then one of 60 alone: (20 * 2 + 60 * 1) / 80
    assert chain_length([add, add, mm, long], 1.0) == 1.25


def test_a_window_needs_two_steps_before_it_and_measures_by_its_clock(tmp_path: Path) -> None:
    times = iter(range(1000))
    window = ProfiledWindow(tmp_path, 3, steps=2, after=0, clock=lambda: float(next(times)))
    found = [window.step() for _ in range(8)]
    assert [each is not None for each in found] == [False, False, False, True, False, False, False, False]
    assert found[3] is not None
    assert found[3]["trace"] == "rank-3.trace.json"
    assert found[3]["steps"] == 2
    # steps end at 0, 1, 4, 5 seconds; starting took 1 (from 1 to 2), the window began at 3: 2 s for two steps of 1 s, and 1 to write
    assert (found[3]["slower"], found[3]["cost_s"]) == (1.0, 2.0)
    assert (tmp_path / "rank-3.trace.json").exists()
