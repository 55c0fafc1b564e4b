"""Work in stretches: every file once, results in order, the first failure told."""

from __future__ import annotations

import pytest

from bedplate.data.trees.parallel import BATCH_BYTES, BATCH_FILES, batches, in_batches


def test_batches_cover_every_file_once_and_stay_small() -> None:
    sizes = [4096] * 1000 + [BATCH_BYTES * 2] + [4096] * 10
    parts = list(batches(sizes))
    assert [number for part in parts for number in range(len(sizes))[part]] == list(range(len(sizes)))
    assert all(part.stop - part.start <= BATCH_FILES for part in parts)
    assert all(part.stop - part.start == 1 or sum(sizes[part]) <= BATCH_BYTES for part in parts)
    assert list(batches([])) == []


def test_results_are_in_order_and_a_failure_is_told() -> None:
    sizes = [1] * (BATCH_FILES * 5 + 3)
    assert [number for part in in_batches(lambda part: range(len(sizes))[part], sizes) for number in part] == list(range(len(sizes)))
    assert in_batches(lambda part: part, []) == []
    with pytest.raises(ZeroDivisionError):
        in_batches(lambda part: 1 // (part.start - BATCH_FILES), sizes)
