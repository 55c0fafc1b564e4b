"""Sketches of distinct values: exact while small, near when large, and the same however they were put together."""

from __future__ import annotations

import numpy as np
import pytest

from bedplate.data.online.sketch import K, estimate, hashes, smallest


def of(first: int, end: int) -> np.ndarray:
    return hashes([str(number).encode() for number in range(first, end)])


@pytest.mark.parametrize("count", [0, 1, 100, K - 1])
def test_few_values_are_counted(count: int) -> None:
    assert estimate(smallest(np.concatenate([of(0, count), of(0, count)]))) == count


@pytest.mark.parametrize("count", [K, 1000, 20_000])
def test_many_values_are_estimated(count: int) -> None:
    assert abs(estimate(smallest(of(0, count))) - count) < 0.2 * count


def test_a_union_of_sketches_is_the_sketch_of_the_union() -> None:
    parts = [smallest(of(first, first + 700)) for first in (0, 500, 1000)]
    assert smallest(np.concatenate(parts)).tolist() == smallest(of(0, 1700)).tolist()


def test_equal_bytes_have_equal_hashes() -> None:
    assert hashes([b"a", b"b", b"a"]).tolist()[0] == hashes([b"a"]).tolist()[0]
    assert len(set(of(0, 1000).tolist())) == 1000
