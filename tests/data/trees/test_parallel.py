"""Work in stretches: every file once, results in order, the first failure told."""

from __future__ import annotations

import threading

import pytest

from bedplate.data.trees.parallel import BATCH_BYTES, BATCH_FILES, SMALL_BYTES, batches, in_batches


def test_batches_cover_every_file_once_and_stay_small() -> None:
    sizes = [4096] * 1000 + [BATCH_BYTES * 2] + [4096] * 10
    parts = list(batches(sizes))
    assert [number for part in parts for number in range(len(sizes))[part]] == list(range(len(sizes)))
    assert all(part.stop - part.start <= BATCH_FILES for part in parts)
    assert all(part.stop - part.start == 1 or sum(sizes[part]) <= BATCH_BYTES for part in parts)
    assert list(batches([])) == []


@pytest.mark.parametrize("size_bytes", [1, SMALL_BYTES])
def test_results_are_in_order_and_a_failure_is_told(size_bytes: int) -> None:
    sizes = [size_bytes] * (BATCH_FILES * 5 + 3)
    assert [number for part in in_batches(lambda part: range(len(sizes))[part], sizes) for number in part] == list(range(len(sizes)))
    assert in_batches(lambda part: part, []) == []
    with pytest.raises(ZeroDivisionError):
        in_batches(lambda part: 1 // (part.start - BATCH_FILES), sizes)


def test_small_files_are_left_to_one_thread() -> None:
    threads = in_batches(lambda _: threading.current_thread(), [SMALL_BYTES - 1] * BATCH_FILES * 3)
    assert threads == [threading.current_thread()] * 3
    assert threading.current_thread() not in in_batches(lambda _: threading.current_thread(), [SMALL_BYTES] * BATCH_FILES * 3)
