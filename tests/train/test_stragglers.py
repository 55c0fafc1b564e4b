from bedplate.train.stragglers import MEETINGS, StragglerWatch


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
