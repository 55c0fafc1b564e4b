"""Aggregates over stretches of events against looking at each of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.data.ordered import BLOCK, Events, counted

_values = st.lists(st.one_of(st.none(), st.just(math.nan), st.integers(-5, 5).map(float)), min_size=1, max_size=3 * BLOCK)


def events(values: list[Any], minutes: list[int] | None = None) -> Events:
    """Events of one entity, a minute apart or as told."""
    at = np.array(minutes if minutes is not None else range(len(values)), np.int64) * 60_000_000
    return Events(np.zeros(len(values), np.int64), at, np.arange(len(values)), pa.array(values, from_pandas=False))


def stretches(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stretches that move forward only, also empty ones."""
    draw = np.random.default_rng(seed)
    ends = np.sort(draw.integers(0, count + 1, 12))
    return np.maximum.accumulate(np.minimum(draw.integers(0, count + 1, 12), ends)), ends


@settings(max_examples=50, deadline=None)
@given(_values, st.integers(0, 1000))
def test_extremes_last_and_distinct(values: list[Any], seed: int) -> None:
    made = events(pa.array(values, pa.float64()).to_pylist() or [])
    starts, ends = stretches(len(values), seed)
    seen = [[value for value in values[start:end] if value is not None and value == value] for start, end in zip(starts, ends, strict=True)]
    assert made.extreme(False, starts, ends).to_pylist() == [min(each, default=None) for each in seen]
    assert made.extreme(True, starts, ends).to_pylist() == [max(each, default=None) for each in seen]
    assert made.last(starts, ends).to_pylist() == [each[-1] if each else None for each in seen]
    assert made.distinct(starts, ends).tolist() == [len(set(each)) for each in seen]


def test_an_event_counts_half_after_a_half_life() -> None:
    made = events([8.0, None, 2.0], [0, 5, 10])
    amounts, weights = made.decayed(600_000_000, np.array([600_000_000, 1_200_000_000]), np.array([3, 3]))
    assert amounts.tolist() == pytest.approx([8 / 2 + 2, 8 / 4 + 2 / 2], rel=1e-12)
    assert weights.tolist() == pytest.approx([1.5, 0.75], rel=1e-12)


def test_strings_are_ordered_and_counted_too() -> None:
    made = events(["b", None, "a", "b"])
    whole = np.array([0]), np.array([4])
    assert (made.extreme(False, *whole).to_pylist(), made.extreme(True, *whole).to_pylist()) == (["a"], ["b"])
    assert made.distinct(*whole).tolist() == [2]


def test_without_a_key_a_stretch_is_seen_alone() -> None:
    alone = events([1.0, 2.0, 3.0]).alone(0, 3, 1)
    assert alone.values.to_pylist() == [1.0, 3.0]
    assert alone.at.tolist() == [0, 120_000_000]


def test_nulls_and_nan_do_not_count() -> None:
    assert counted(pa.array([1.0, None, math.nan])).tolist() == [True, False, False]
    assert counted(pa.array(["x", None])).tolist() == [True, False]
