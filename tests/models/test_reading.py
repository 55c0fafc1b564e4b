"""What a rule reads: metrics, folds over slices, one group, drifts; and what is no value of an evaluation."""

from __future__ import annotations

import ast
import math

import pytest

from bedplate.models.reading import Metrics, Read, read

SLICES = {"carrier": {"AA": {"rmse": 10.0, "rows": 900.0}, "9E": {"rmse": 16.0, "rows": 20.0}, "UA": {"rmse": 13.0, "rows": 80.0}}}
BEFORE = {"carrier": {"AA": {"rmse": 12.0}, "9E": {"rmse": 14.0}}}
METRICS = Metrics({"rmse": 11.0, "size_bytes": 3e6}, {"rmse": 12.0}, SLICES, BEFORE, {"psi(dep_delay)": 0.07})
FIRST = Metrics({"rmse": 11.0}, None, SLICES)


def reading(text: str) -> Read | None:
    return read(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rmse", 11.0),
        ("size_bytes", 3e6),
        ("production.rmse", 12.0),
        ("max(slice.carrier.rmse)", 16.0),
        ("min(slice.carrier.rmse)", 10.0),
        ("mean(slice.carrier.rmse)", 13.0),
        ("gap(slice.carrier.rmse)", 6.0),
        ("min(slice.carrier.rows)", 20.0),
        ("max(production.slice.carrier.rmse)", 14.0),
        ('slice.carrier["9E"].rmse', 16.0),
        ('production.slice.carrier["9E"].rmse', 14.0),
        ("drift.psi(dep_delay)", 0.07),
        ('drift.psi("dep_delay")', 0.07),
    ],
)
def test_what_is_read_and_what_it_is(text: str, value: float) -> None:
    found = reading(text)
    assert found is not None and found.value(METRICS) == value


@pytest.mark.parametrize(
    "text",
    ["production", "slice", "slice.carrier", "slice.carrier.rmse", "max(rmse)", "max(slice.carrier)", "sum(slice.carrier.rmse)", "1",
     "drift.psi", "drift.psi(a, b)", "drift.psi(1)", "drift.mean(x)", "max(slice.carrier.rmse, 3)", "other.slice.carrier['x'].rmse",
     "production.slice", "max(slice.a.b.c)"],
)  # fmt: skip
def test_what_is_no_value(text: str) -> None:
    assert reading(text) is None


@pytest.mark.parametrize("text", ["production.rmse", "gap(production.slice.carrier.rmse)", "drift.ks(dep_delay)"])
def test_what_rests_on_an_absent_production_has_no_value(text: str) -> None:
    found = reading(text)
    assert found is not None and found.value(FIRST) is None


@pytest.mark.parametrize(
    ("text", "name", "known"),
    [
        ("mae", "mae", ("rmse", "size_bytes")),
        ("production.mae", "mae", ("rmse",)),
        ("max(slice.origin.rmse)", "origin", ("carrier",)),
        ('slice.carrier["ZZ"].rmse', "ZZ", ("AA", "9E", "UA")),
        ("max(slice.carrier.mae)", "mae", ("rmse", "rows")),
        ("drift.ks(dep_delay)", "ks(dep_delay)", ("psi(dep_delay)",)),
    ],
)
def test_what_is_not_there_is_named_with_what_is(text: str, name: str, known: tuple[str, ...]) -> None:
    found = reading(text)
    assert found is not None
    with pytest.raises(KeyError) as caught:
        found.value(METRICS)
    assert caught.value.args == (name, known)


def test_a_group_that_is_no_number_makes_the_fold_none() -> None:
    found = reading("max(slice.carrier.rmse)")
    assert found is not None
    value = found.value(Metrics({}, None, {"carrier": {"AA": {"rmse": 1.0}, "9E": {"rmse": math.nan}}}))
    assert value is not None and math.isnan(value)


def test_only_what_comes_from_rows_can_be_drawn_again() -> None:
    kinds = {
        text: found.of_rows
        for text in ("rmse", "latency_p99_s", "size_bytes", "drift.psi(x)", "max(slice.a.rmse)")
        if (found := reading(text))
    }
    assert kinds == {"rmse": True, "latency_p99_s": False, "size_bytes": False, "drift.psi(x)": False, "max(slice.a.rmse)": True}
