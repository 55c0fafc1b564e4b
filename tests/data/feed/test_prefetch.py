"""Work ahead: in order, bounded, and its errors in their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from bedplate.data.feed.prefetch import ahead


def test_results_come_in_order_though_work_ends_in_another() -> None:
    def work(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number * 10

    assert list(ahead(work, range(20), workers=3, depth=6)) == [number * 10 for number in range(20)]


def test_no_more_than_depth_is_ahead() -> None:
    begun: list[int] = []
    results = ahead(begun.append, range(100), workers=2, depth=4)
    for taken in range(1, 11):
        next(results)
        assert len(begun) <= taken + 4
    results.close()  # type: ignore[attr-defined] # it is a generator


def test_an_error_comes_in_the_place_of_its_result_and_threads_end() -> None:
    before = threading.active_count()

    def work(number: int) -> int:
        if number == 5:
            raise ValueError(f"number {number}")
        return number

    results = ahead(work, range(10), workers=2, depth=4)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="number 5"):
        next(results)
    assert threading.active_count() == before


def test_it_ends_with_its_iterator() -> None:
    before = threading.active_count()
    results = ahead(lambda number: number, range(10), workers=2, depth=4)
    next(results)
    assert threading.active_count() > before
    results.close()  # type: ignore[attr-defined] # it is a generator
    assert threading.active_count() == before


def test_no_items_are_no_results_and_no_threads() -> None:
    before = threading.active_count()
    assert list(ahead(str, [], workers=2, depth=4)) == []
    assert threading.active_count() == before


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_any_depth_gives_all_results_once(depth: int) -> None:
    assert list(ahead(str, range(9), workers=2, depth=depth)) == [str(number) for number in range(9)]


def test_work_is_done_by_other_threads_than_the_caller() -> None:
    names = set(ahead(lambda _: threading.current_thread().name, range(8), workers=2, depth=4))
    assert names
    assert all(name.startswith("bedplate-decode") for name in names)


def test_an_error_of_the_source_ends_the_threads() -> None:
    before = threading.active_count()

    def source() -> Iterator[int]:
        yield from range(4)
        raise OSError("the source broke")

    results = ahead(lambda number: number, source(), workers=2, depth=2)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(OSError, match="the source broke"):
        next(results)
    assert threading.active_count() == before


def test_nothing_is_taken_from_the_source_before_the_first_result_is_asked_for() -> None:
    taken: list[int] = []
    results = ahead(taken.append, range(5), workers=1, depth=2)
    assert taken == []
    list(results)
    assert taken == [0, 1, 2, 3, 4]
