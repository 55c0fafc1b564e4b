import pytest

from bedplate.train.stragglers import LEAST_S, MEETINGS, TIMES_OTHERS, StragglerWatch


def test_a_rank_that_is_slow_again_and_again_is_told_of_once() -> None:
    watch = StragglerWatch()
    seen = [watch.see([0.1, 0.1, 0.3, 0.12]) for _ in range(3 * MEETINGS)]
    (found,) = [each for each in seen if each is not None]
    assert seen.index(found) == MEETINGS - 1
    assert found.rank == 2
    assert "rank 2 needs 3.0 x" in found.message()


def test_now_this_one_and_now_that_one_is_none() -> None:
    watch = StragglerWatch()
    assert not any(watch.see([0.3, 0.1] if meeting % 2 else [0.1, 0.3]) for meeting in range(40))


def test_noise_and_a_lone_rank_are_none() -> None:
    watch = StragglerWatch()
    assert not any(watch.see([0.001, 0.004]) for _ in range(40))
    assert not any(watch.see([5.0]) for _ in range(40))


def test_one_good_meeting_starts_the_count_again() -> None:
    watch = StragglerWatch()
    slow, even = [0.1, 0.3, 0.1], [0.1, 0.1, 0.1]
    seen = [watch.see(own_s) for own_s in [slow] * (MEETINGS - 1) + [even] + [slow] * (MEETINGS - 1)]
    assert not any(seen)
    found = watch.see(slow)
    assert found is not None and found.rank == 1


def test_another_rank_that_becomes_slow_later_is_told_of_too() -> None:
    watch = StragglerWatch()
    first = [watch.see([0.3, 0.1, 0.1]) for _ in range(MEETINGS)][-1]
    second = [watch.see([0.1, 0.1, 0.4]) for _ in range(MEETINGS)][-1]
    assert first is not None and second is not None
    assert (first.rank, second.rank) == (0, 2)
    assert (first.times, second.times) == pytest.approx((3.0, 4.0))
    assert not any(watch.see([0.3, 0.1, 0.1]) for _ in range(3 * MEETINGS)), "the first is known"


@pytest.mark.parametrize(
    ("own_s", "slow"),
    [
        ([TIMES_OTHERS * 0.1 + 1e-6, 0.1, 0.1], True),
        ([TIMES_OTHERS * 0.1 - 1e-6, 0.1, 0.1], False),
        ([LEAST_S, 0.001], False),
        ([LEAST_S + 1e-6, 0.001], True),
        ([0.3, 0.25, 0.1], True),  # of the others the median counts: 0.175
        ([0.3, 0.28, 0.28, 0.1], False),
        ([0.3, 0.0], True),  # the other has done nothing at all
        ([], False),
    ],
)
def test_who_counts_as_slow(own_s: list[float], slow: bool) -> None:
    watch = StragglerWatch()
    found = [watch.see(own_s) for _ in range(MEETINGS)][-1]
    assert (found is not None) == slow
    assert found is None or found.rank == 0
