import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.train.losses import BEFORE_A_SPIKE, REMEMBERED, LossWatch


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_bad(loss: float) -> None:
    assert LossWatch().is_bad(loss)


def test_a_spike_is_bad_only_where_it_was_asked_for_and_enough_is_known() -> None:
    asked, silent = LossWatch(spike=10.0), LossWatch()
    assert not asked.is_bad(1000.0)
    for _ in range(BEFORE_A_SPIKE + 4):
        assert not asked.is_bad(1.0)
        assert not silent.is_bad(1.0)
    assert asked.is_bad(10.0)
    assert not asked.is_bad(9.9)
    assert not silent.is_bad(1e9)


def test_a_bad_loss_is_not_remembered() -> None:
    watch = LossWatch(spike=2.0)
    for _ in range(BEFORE_A_SPIKE):
        watch.is_bad(1.0)
    assert [watch.is_bad(5.0) for _ in range(100)] == [True] * 100


def watched(losses: Sequence[float], spike: float | None) -> list[bool]:
    watch = LossWatch(spike)
    return [watch.is_bad(loss) for loss in losses]


@pytest.mark.parametrize(("known", "bad"), [(BEFORE_A_SPIKE - 1, False), (BEFORE_A_SPIKE, True)])
def test_a_spike_needs_so_many_losses_before_it(known: int, bad: bool) -> None:
    assert watched([2.0] * known + [50.0], 10.0)[-1] is bad


def test_what_is_no_number_does_not_count_as_known() -> None:
    assert watched([1.0] * (BEFORE_A_SPIKE - 1) + [math.nan, 50.0], 10.0)[-2:] == [True, False]


def test_a_few_high_losses_do_not_move_what_is_usual() -> None:
    assert watched([1.0] * 11 + [7.0] * 5 + [9.9, 10.0], 10.0)[-2:] == [False, True]


def test_only_the_recent_losses_are_usual() -> None:
    high, low = [100.0] * REMEMBERED, [1.0] * (REMEMBERED // 2 + 1)
    assert watched([*high, *low, 100.0], 10.0)[-1], "the median of the last 64 is 1 now"
    assert not watched([*high, *low[:-2], 100.0], 10.0)[-1], "it is 100 still"


@pytest.mark.parametrize(("usual", "loss", "bad"), [(-2.0, 20.0, True), (-2.0, 19.0, False), (-2.0, -100.0, False), (0.0, 1e9, False)])
def test_losses_below_zero_are_compared_by_size_and_zero_with_nothing(usual: float, loss: float, bad: bool) -> None:
    assert watched([usual] * BEFORE_A_SPIKE + [loss], 10.0)[-1] is bad


@given(st.lists(st.floats(-1e6, 1e6), max_size=80))
def test_without_a_spike_every_number_is_good(losses: list[float]) -> None:
    assert not any(watched(losses, None))


@given(st.lists(st.floats(1.0, 2.0), max_size=80), st.floats(2.5, 100.0))
def test_losses_that_stay_within_the_factor_are_never_bad(losses: list[float], spike: float) -> None:
    assert not any(watched(losses, spike))
