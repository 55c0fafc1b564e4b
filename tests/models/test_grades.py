"""What `evaluate` may return, how metrics and slices follow from rows, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import JobError
from bedplate.models.grades import grades

ERRORS = [3.0, -4.0, 0.0, 1.0]
CARRIERS = ["AA", "UA", "AA", None]


def test_metrics_and_slices_are_taken_as_they_are() -> None:
    found = grades({"rmse": np.float32(2.5), "slices": {"carrier": {"AA": {"rmse": 2}, 7: {"rmse": 3.0}}}})
    assert found.metrics == {"rmse": 2.5}
    assert found.slices == {"carrier": {"AA": {"rmse": 2.0}, "7": {"rmse": 3.0}}}
    assert found.rows is None
    assert grades({"rows": 60.0}).metrics == {"rows": 60.0}, "a number is a metric, whatever its name"


def test_metrics_and_slices_follow_from_rows() -> None:
    found = grades({"rows": {"rmse": ERRORS, "mae": ERRORS, "late": [True, False, True, True], "carrier": CARRIERS}})
    assert found.metrics == pytest.approx({"rmse": math.sqrt(26 / 4), "mae": 2.0, "late": 0.75})
    carrier = found.slices["carrier"]
    assert set(carrier) == {"AA", "UA", "null"}
    assert carrier["AA"] == pytest.approx({"rows": 2, "rmse": math.sqrt(4.5), "mae": 1.5, "late": 1.0})
    assert carrier["UA"]["rmse"] == 4.0 and carrier["null"]["rows"] == 1


def test_arrays_of_every_library_are_rows() -> None:
    import pyarrow as pa
    import torch

    found = grades({"rows": {"rmse": torch.tensor(ERRORS), "mae": np.array(ERRORS, np.float32), "carrier": pa.array(CARRIERS)}})
    assert found.metrics["mae"] == 2.0 and set(found.slices["carrier"]) == {"AA", "UA", "null"}


def test_a_metric_beside_its_rows_must_be_what_they_give() -> None:
    assert grades({"rmse": 2.5495, "rows": {"rmse": ERRORS}}).metrics["rmse"] == 2.5495, "up to rounding"
    with pytest.raises(JobError, match=r"the metric 'rmse' is not what its rows give .* \(not its square\)"):
        grades({"rmse": 2.5495, "rows": {"rmse": [error**2 for error in ERRORS]}})


def test_slices_of_the_users_own_stand_beside_those_of_rows() -> None:
    found = grades({"rows": {"rmse": ERRORS, "carrier": CARRIERS}, "slices": {"season": {"winter": {"rmse": 9.0}}}})
    assert set(found.slices) == {"carrier", "season"}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "must return a mapping of metric names"),
        ({}, "must return a mapping"),
        ({"slices": {}}, "must return a mapping of metric names"),
        ({"rmse": math.inf}, "'rmse' is not a finite number"),
        ({"rmse": True}, "'rmse' is not a finite number"),
        ({"rmse": "good"}, "'rmse' is not a finite number"),
        ({"rmse": 1, "slices": [1]}, "slices must be a mapping"),
        ({"rmse": 1, "slices": {"carrier": {"AA": 3}}}, "the slice 'carrier' must map values to metrics"),
        ({"rmse": 1, "slices": {"carrier": {"AA": {"rmse": math.nan}}}}, "'rmse' of carrier=AA is not a finite number"),
        ({"rows": [1, 2]}, "rows must be a mapping"),
        ({"rows": {"rmse": [1.0], "carrier": ["a", "b"]}}, "must be of one length"),
        ({"rows": {"rmse": []}}, "must be of one length"),
        ({"rows": {"rmse": [[1.0]]}}, "must be of one length"),
        ({"rows": {"carrier": ["a"]}}, "rows have no column of numbers"),
        ({"rows": {"rmse": [1.0, math.nan]}}, "the rows of 'rmse' are not all finite"),
        ({"rows": {"rmse": np.array([1j])}}, "the rows of 'rmse' are not all finite"),
    ],
)
def test_what_is_no_grade_is_refused(result: Any, message: str) -> None:
    with pytest.raises(JobError, match=message):
        grades(result)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from("abc")), min_size=1, max_size=50))
def test_groups_add_up_to_the_whole(rows: list[tuple[float, str]]) -> None:
    errors, groups = [error for error, _ in rows], [group for _, group in rows]
    found = grades({"rows": {"rmse": errors, "loss": errors, "group": groups}})
    sliced = found.slices["group"].values()
    assert sum(each["rows"] for each in sliced) == len(rows)
    assert sum(each["rows"] * each["loss"] for each in sliced) / len(rows) == pytest.approx(found.metrics["loss"], rel=1e-6, abs=1e-6)
    assert max(each["rmse"] for each in sliced) >= found.metrics["rmse"] * (1 - 1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 4)), min_size=1, max_size=30))
def test_a_weight_is_a_row_so_many_times(rows: list[tuple[float, int]]) -> None:
    rows = [*rows, (1.0, 1)]
    weights = np.array([weight for _, weight in rows], float)
    repeated = [error for error, weight in rows for _ in range(weight)]
    some, many = grades({"rows": {"rmse": [error for error, _ in rows]}}).rows, grades({"rows": {"rmse": repeated}}).metrics
    assert some is not None and some.metric("rmse", weights) == pytest.approx(many["rmse"], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "column", "metric"),
    [
        ("rmse", [3.0, -4.0], math.sqrt(12.5)),
        ("delay_rmse", [3.0, -4.0], math.sqrt(12.5)),
        ("mae", [3.0, -4.0], 3.5),
        ("late_mae", [3.0, -4.0], 3.5),
        ("loss", [3.0, -4.0], -0.5),
        ("rmses", [3.0, -4.0], -0.5),
        ("armse", [3.0, -4.0], -0.5),
        ("accuracy", [True, False], 0.5),
        ("hits", np.array([255, 255], np.uint8), 255.0),
        ("rmse", np.array([100, 100], np.int8), 100.0),
        ("mae", np.array([-128], np.int8), 128.0),
        ("rmse", np.array([300.0], np.float16), 300.0),
    ],
)
def test_a_metric_by_its_name_and_rows_of_any_width(name: str, column: object, metric: float) -> None:
    assert grades({"rows": {name: column}}).metrics == {name: pytest.approx(metric)}


@pytest.mark.parametrize("number", [1, 1.0, np.float64(1), np.int32(1), np.array(1.0), np.array([1])])
def test_one_number_of_any_library_is_a_metric(number: object) -> None:
    assert grades({"rmse": number}).metrics == {"rmse": 1.0}


@pytest.mark.parametrize("value", [np.array([1.0, 2.0]), [1.0], None, np.bool_(True), 1j, math.nan, np.float32("inf")])
def test_what_is_not_one_finite_number_is_refused(value: object) -> None:
    with pytest.raises(JobError, match="the metric 'rmse' is not a finite number"):
        grades({"rmse": value})


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (["b", "a", "b"], {"a": 1, "b": 2}),
        ([b"x", b"y", b"x"], {"x": 2, "y": 1}),
        (np.array(["a", "a", "a"]), {"a": 3}),
        ([None, None, "null"], {"null": 3}),
        (np.array([1, "b", None], dtype=object), {"1": 1, "b": 1, "null": 1}),
        (["", "", "ü"], {"": 2, "ü": 1}),
    ],
)
def test_groups_by_text_of_any_kind(column: object, names: dict[str, int]) -> None:
    found = grades({"rows": {"loss": [1.0, 2.0, 3.0], "group": column}}).slices["group"]
    assert {name: int(measured["rows"]) for name, measured in found.items()} == names


def test_weights_leave_out_groups_that_have_none() -> None:
    rows = grades({"rows": {"mae": [1.0, 3.0, 5.0], "shop": ["a", "b", "b"]}}).rows
    assert rows is not None
    assert rows.by_group("shop", "mae", np.array([0.0, 1.0, 3.0])) == {"b": 4.5}
    assert rows.metric("mae", np.array([2.0, 0.0, 2.0])) == 3.0
    assert math.isnan(rows.metric("mae", np.zeros(3)))
