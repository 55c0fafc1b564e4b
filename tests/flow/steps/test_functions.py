"""On-demand features of a step: the functions are found in the project's files."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bedplate.core.errors import JobError
from bedplate.data.on_demand import apply
from bedplate.flow.steps.functions import on_demand_views


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the project with one function."""
    (tmp_path / "on_demand_of_test.py").write_text("def twice(columns):\n    return {'n': [2 * v for v in columns['x'].to_pylist()]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "on_demand_of_test.py"
    sys.modules.pop("on_demand_of_test", None)


def test_a_declared_function_becomes_a_view(code: str) -> None:
    views = on_demand_views({"on_demand": {"d": {"function": f"{code}:twice", "inputs": ["x"], "columns": {"n": "int"}}}})
    assert list(views) == ["d"]
    assert apply(views["d"], {"x": pa.array([1, 2])})["d__n"].to_pylist() == [2, 4]


def test_a_step_without_any_has_none() -> None:
    assert on_demand_views({}) == {}


def test_a_function_that_is_not_there_names_the_nearest(code: str) -> None:
    with pytest.raises(JobError, match=r"no function of that name \(got 'twise'\)\. Fix: did you mean 'twice'"):
        on_demand_views({"on_demand": {"d": {"function": f"{code}:twise", "inputs": ["x"], "columns": {"n": "int"}}}})
