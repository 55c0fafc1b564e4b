import pytest

from bedplate.cluster.queue import Job, Place, Project, Running
from bedplate.cluster.queue.state import HALF_LIFE_S, UNKNOWN_S, decayed

AT = (Place(0, (0, 1)),)


def test_use_counts_half_after_a_half_life_and_by_the_guarantee() -> None:
    assert decayed(80.0, HALF_LIFE_S) == pytest.approx(40.0)
    assert decayed(80.0, 0) == 80.0
    assert Project("a", 4000, 8000, 40.0).share == 10.0
    assert Project("a", 0, 8000, 40.0).share > Project("b", 1000, 8000, 40.0).share


def test_a_job_ends_by_its_estimate_and_past_it_lasts_as_long_again() -> None:
    running = Running(Job("j", "a", 0, milli=2000, length_s=100.0), AT, 50.0, 60.0)
    assert running.ends_s(100.0) == 150.0
    assert running.ends_s(200.0) == 200.0 + UNKNOWN_S
    assert running.ends_s(50_050.0) == 100_050.0
    assert Running(Job("j", "a", 0), AT, 0.0, 0.0).ends_s(10.0) == 10.0 + UNKNOWN_S


def test_stopping_loses_the_work_since_the_checkpoint_on_every_device() -> None:
    running = Running(Job("j", "a", 0, workers=3, milli=2000), AT, 50.0, 60.0)
    assert running.lost_s(100.0) == 240.0
    assert running.lost_s(55.0) == 0.0
