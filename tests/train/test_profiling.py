"""The profiled window, on real operators."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bedplate.train.profiling import ProfiledWindow, call_cost_us, chain_length, moves, summary, window_of
from train.samples import attempt_in


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
