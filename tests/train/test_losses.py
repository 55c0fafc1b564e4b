import math

import pytest

from bedplate.train.losses import BEFORE_A_SPIKE, LossWatch


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
