"""Batches: what gathers, what is refused, and that nobody pays for somebody else's request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.serve.batching import Batcher, Full, Late, Left, Limits


class Model:
    """Doubles numbers; waits at a gate, and fails for a row below 0."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, rows: list[int]) -> list[int]:
        self.batches.append(rows)
        self.entered.set()
        assert self.gate.wait(30)
        if min(rows) < 0:
            raise ValueError(f"no {min(rows)}")
        return [2 * row for row in rows]


async def stays() -> None:
    await asyncio.Event().wait()


Work = Callable[["Batcher[int, int]"], Coroutine[Any, Any, None]]


def run(model: Callable[[list[int]], list[int]], limits: Limits, work: Work) -> None:
    async def main() -> None:
        batcher = Batcher(model, limits)
        try:
            await asyncio.wait_for(work(batcher), 30)
        finally:
            assert batcher.close()

    asyncio.run(main())


async def begun(model: Model, batcher: Batcher[int, int]) -> asyncio.Task[list[int]]:
    """A first request that the model is at."""
    model.gate.clear()
    first = asyncio.create_task(batcher.answer("a", [0], stays))
    await asyncio.to_thread(model.entered.wait, 30)
    return first


def test_requests_of_one_moment_are_one_batch() -> None:
    model = Model()

    async def work(batcher: Batcher[int, int]) -> None:
        answers = await asyncio.gather(*(batcher.answer("a", [n, n + 10], stays) for n in range(5)))
        assert answers == [[2 * n, 2 * n + 20] for n in range(5)]

    run(model, Limits(), work)
    assert [len(batch) for batch in model.batches] == [10]


def test_what_comes_while_the_model_runs_is_the_next_batch_up_to_its_size() -> None:
    model = Model()

    async def work(batcher: Batcher[int, int]) -> None:
        first = await begun(model, batcher)
        later = [asyncio.create_task(batcher.answer("a", [n], stays)) for n in range(1, 8)]
        await asyncio.sleep(0)
        assert batcher.waiting == 7
        model.gate.set()
        assert await first == [0]
        assert await asyncio.gather(*later) == [[2 * n] for n in range(1, 8)]

    run(model, Limits(size=4), work)
    assert [len(batch) for batch in model.batches] == [1, 4, 3]


def test_with_a_delay_the_first_waits_for_company_but_not_for_more_than_fits() -> None:
    model = Model()

    async def work(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher.answer("a", [1], stays))
        await asyncio.sleep(0.05)
        assert not model.batches
        second = asyncio.create_task(batcher.answer("b", [2], stays))  # full: the rest of the hour is not waited for
        assert [await first, await second] == [[2], [4]]

    run(model, Limits(size=2, delay_s=3600), work)
    assert sorted(map(sorted, model.batches)) == [[1, 2]]


def test_one_request_may_be_larger_than_a_batch() -> None:
    model = Model()

    async def work(batcher: Batcher[int, int]) -> None:
        assert await batcher.answer("a", list(range(10)), stays) == [2 * n for n in range(10)]

    run(model, Limits(size=4, queue=5), work)


def test_a_bad_request_spoils_nobody_elses_answer() -> None:
    async def work(batcher: Batcher[int, int]) -> None:
        asked = [batcher.answer("a", rows, stays) for rows in ([1], [-5], [3, 4])]
        one, bad, three = await asyncio.gather(*asked, return_exceptions=True)
        assert (one, three) == ([2], [6, 8])
        assert isinstance(bad, ValueError) and "no -5" in str(bad)

    run(Model(), Limits(), work)


def test_a_model_that_gives_too_few_results_is_told_so() -> None:
    async def work(batcher: Batcher[int, int]) -> None:
        with pytest.raises(ValueError, match="1 results for 2 rows"):
            await batcher.answer("a", [1, 2], stays)

    run(lambda rows: rows[:1], Limits(), work)


def test_a_full_line_is_refused_and_says_when_to_come_again() -> None:
    model = Model()

    async def work(batcher: Batcher[int, int]) -> None:
        first = await begun(model, batcher)
        waiting = [asyncio.create_task(batcher.answer("a", [n], stays)) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Full) as caught:
            await batcher.answer("a", [9], stays)
        assert caught.value.waiting == 3
        assert caught.value.retry_after_s >= 1
        model.gate.set()
        assert await asyncio.gather(first, *waiting) == [[0], [0], [2], [4]]
        assert await batcher.answer("a", [9], stays) == [18]

    run(model, Limits(queue=3), work)


def test_a_deadline_is_one_error_and_what_waited_in_vain_is_not_begun() -> None:
    model = Model()

    async def work(batcher: Batcher[int, int]) -> None:
        first = await begun(model, batcher)
        second = asyncio.create_task(batcher.answer("a", [7], stays))
        for task in (first, second):
            with pytest.raises(Late):
                await task
        model.gate.set()
        assert await batcher.answer("a", [1], stays) == [2]

    run(model, Limits(deadline_s=0.1), work)
    assert [7] not in model.batches


def test_whoever_goes_away_is_not_answered_and_not_begun() -> None:
    model = Model()
    left = asyncio.Event()

    async def leaves() -> None:
        await left.wait()

    async def work(batcher: Batcher[int, int]) -> None:
        first = await begun(model, batcher)
        second = asyncio.create_task(batcher.answer("a", [7], leaves))
        await asyncio.sleep(0)
        left.set()
        with pytest.raises(Left):
            await second
        model.gate.set()
        assert await first == [0]
        assert await batcher.answer("a", [1], stays) == [2]

    run(model, Limits(), work)
    assert model.batches == [[0], [1]]


def test_callers_take_turns() -> None:
    model = Model()

    async def work(batcher: Batcher[int, int]) -> None:
        first = await begun(model, batcher)
        much = [asyncio.create_task(batcher.answer("much", [n], stays)) for n in range(100, 120)]
        little = asyncio.create_task(batcher.answer("little", [1], stays))
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(first, *much, little)

    run(model, Limits(size=1), work)
    assert [1] in model.batches[:4]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 100), min_size=1, max_size=5), min_size=1, max_size=30), st.integers(1, 8))
def test_every_request_gets_its_own_answer(asked: list[list[int]], size: int) -> None:
    async def work(batcher: Batcher[int, int]) -> None:
        tasks: list[Awaitable[list[int]]] = [batcher.answer("ab"[n % 2], rows, stays) for n, rows in enumerate(asked)]
        for rows, answer in zip(asked, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if min(rows) < 0:
                assert isinstance(answer, ValueError)
            else:
                assert answer == [2 * row for row in rows]

    run(Model(), Limits(size=size), work)
