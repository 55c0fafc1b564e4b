"""The function runtime: what a user's `predict` may return, and how a wrong one is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pytest

from bedplate.core.errors import JobError
from bedplate.serve.runtimes.function import FunctionRuntime

ROWS = [{"x": 1.0}, {"x": 2.5}]


def answering(result: Any) -> FunctionRuntime:
    return FunctionRuntime(lambda _version, _rows: result, None)


def test_the_function_gets_the_version_and_the_rows() -> None:
    def predict(version: dict[str, float], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [version["slope"] * row["x"] for row in rows]

    assert FunctionRuntime(predict, {"slope": 2.0}).predict(ROWS) == [2.0, 5.0]


@pytest.mark.parametrize(
    "result",
    [
        [1, 2.5],
        (1, 2.5),
        numpy.array([1, 2.5], dtype=numpy.float32),
        [numpy.float64(1), numpy.float32(2.5)],
        [numpy.int64(1), numpy.array(2.5)],
    ],
)
def test_lists_and_arrays_of_numbers_are_answers(result: Any) -> None:
    answers = answering(result).predict(ROWS)
    assert answers == [1.0, 2.5]
    assert {type(answer) for answer in answers} == {float}


def test_a_tensor_is_an_answer() -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    assert answering(torch.tensor([1.0, 2.5])).predict(ROWS) == [1.0, 2.5]
    assert answering([torch.tensor(1.0), torch.tensor(2.5)]).predict(ROWS) == [1.0, 2.5]


@pytest.mark.parametrize(
    ("result", "what"),
    [
        (None, "predict returned no list"),
        (1.0, "predict returned no list"),
        ("12", "predict returned no list"),
        (numpy.float64(1.0), "predict returned no list"),
        ([1.0], "predict returned 1 answers for 2 rows"),
        ([1.0, 2.0, 3.0], "predict returned 3 answers for 2 rows"),
        ([[1.0], [2.0]], "answer 0 of predict is no number"),
        (numpy.zeros((2, 1)), "answer 0 of predict is no number"),
        ([1.0, "2"], "answer 1 of predict is no number"),
        ([1.0, None], "answer 1 of predict is no number"),
        ([1.0, True], "answer 1 of predict is no number"),
        ([float("nan"), 1.0], "answer 0 of predict is not finite"),
        ([1.0, float("-inf")], "answer 1 of predict is not finite"),
    ],
)
def test_what_is_no_answer_is_told_with_the_fix(result: Any, what: str) -> None:
    with pytest.raises(JobError) as caught:
        answering(result).predict(ROWS)
    assert caught.value.what == what
    assert caught.value.fix


def test_a_function_that_fails_keeps_its_own_error() -> None:
    def predict(_version: Any, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [row["y"] for row in rows]

    with pytest.raises(JobError, match="predict failed: KeyError: 'y'") as caught:
        FunctionRuntime(predict, None).predict(ROWS)
    assert isinstance(caught.value.__cause__, KeyError)


def test_warming_up_calls_once_and_fails_where_the_function_would() -> None:
    calls: list[Sequence[Mapping[str, Any]]] = []
    FunctionRuntime(lambda _version, rows: calls.append(rows) or [0.0], None).warm_up({"x": None})
    assert calls == [[{"x": None}]]
    with pytest.raises(JobError, match="not finite"):
        answering([float("nan")]).warm_up({"x": None})
