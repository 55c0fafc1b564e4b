"""Work in threads: results in order, errors whole, and stretches that cover every row once."""

from __future__ import annotations

import numpy as np
import pytest

from bedplate.data.threads import BLOCK_ROWS, THREADED_ROWS, blocks, cores, gathered, in_threads, stretches

COUNTS = [0, 1, THREADED_ROWS - 1, THREADED_ROWS, 3 * BLOCK_ROWS + 1]


def test_threads_give_results_in_order_and_errors_whole() -> None:
    assert in_threads(lambda part: part + 1, range(5)) == [1, 2, 3, 4, 5]
    assert in_threads(lambda part: part, []) == []
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda part: 1 // part, [1, 0])


@pytest.mark.parametrize("count", COUNTS)
def test_stretches_and_blocks_cover_every_row_once(count: int) -> None:
    rows = np.arange(count)
    for parts in (stretches(count), blocks(count)):
        assert np.array_equal(np.concatenate([rows[part] for part in parts]) if parts else rows, rows)
    assert len(stretches(count)) == (cores() if count >= THREADED_ROWS else 1)
    assert all(part.stop - part.start <= BLOCK_ROWS for part in blocks(count))


@pytest.mark.parametrize("count", COUNTS)
def test_what_is_gathered_by_row_keeps_its_type(count: int) -> None:
    draw = np.random.default_rng(5)
    for values in (draw.random(100), draw.integers(0, 9, 100).astype(np.int32), draw.random(100) < 0.5):
        rows = draw.integers(0, 100, count)
        found = gathered(values, rows)
        assert found.dtype == values.dtype
        assert np.array_equal(found, values[rows])
