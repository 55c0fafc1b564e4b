"""Exposed communication, as torch's own timer of a wrapped model tells it."""

from __future__ import annotations

from typing import Any

import pytest

from bedplate.train.overlap import ExposedCommunication


class Wrapped:
    """The two methods of DistributedDataParallel that are used; what they tell is set by the test (real ones: test_goodput)."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}
        self.reads = 0
        self.rate = 0

    def _set_ddp_runtime_logging_sample_rate(self, rate: int) -> None:
        self.rate = rate

    def _get_ddp_logging_data(self) -> dict[str, Any]:
        self.reads += 1
        return {"backend_name": "gloo", **self.told}


def test_what_is_not_hidden_is_exposed_and_never_more_than_there_was() -> None:
    wrapped = Wrapped()
    exposed = ExposedCommunication(wrapped, clock=lambda: 1.0)
    assert wrapped.rate == 1
    wrapped.told = {"backward_comm_time": 9_000_000, "backward_compute_comm_overlap_time": 4_000_000}
    assert exposed.exposed_s(0.02) == pytest.approx(0.005)
    assert ExposedCommunication(wrapped, clock=lambda: 1.0).exposed_s(0.003) == pytest.approx(0.003)


def test_a_model_that_has_told_nothing_yet_has_none() -> None:
    assert ExposedCommunication(Wrapped(), clock=lambda: 1.0).exposed_s(0.02) == 0.0


def test_steps_that_follow_fast_take_the_share_of_the_one_before() -> None:
    now = [1.0]
    wrapped = Wrapped()
    wrapped.told = {"backward_comm_time": 1_000_000, "backward_compute_comm_overlap_time": 0}
    exposed = ExposedCommunication(wrapped, clock=lambda: now[0])
    assert exposed.exposed_s(0.004) == pytest.approx(0.001)
    now[0] += 0.004
    assert exposed.exposed_s(0.008) == pytest.approx(0.002)
    assert wrapped.reads == 1
    now[0] += 0.02
    exposed.exposed_s(0.004)
    assert wrapped.reads == 2
