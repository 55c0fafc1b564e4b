"""Keeping processes: real ones, that answer, die, drain and end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from bedplate.serve import replicas
from bedplate.serve.replicas import Keeper, Replica

SLEEPS = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"


class World:
    """What replicas run, which of them answer, and what they have to do."""

    def __init__(self) -> None:
        self.code = SLEEPS
        self.answers = True
        self.busy: set[int] = set()
        self.started: list[int] = []
        self.keeper = Keeper(self._start, lambda one: 9000 + one.number if self.answers else 0, lambda one: int(one.number in self.busy))

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        self.started.append(number)
        process = subprocess.Popen([sys.executable, "-S", "-c", self.code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as said:
            assert self.code != STUBBORN or said.readline() == b"on\n"
        return process

    def until(self, holds: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end_s
            self.keeper.tick()
            time.sleep(0.01)

    def ready(self, count: int) -> list[Replica]:
        self.keeper.wanted = count
        self.until(lambda: len(self.keeper.ready) == count)
        return self.keeper.ready


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    yield one
    for kept in list(one.keeper.replicas):
        kept.process.kill()
    one.keeper.close()


def test_as_many_as_are_wanted_answer(world: World) -> None:
    assert [(one.number, one.port) for one in world.ready(3)] == [(1, 9001), (2, 9002), (3, 9003)]
    world.keeper.tick()
    assert world.started == [1, 2, 3]
    assert world.keeper.start_s > 0


def test_one_that_died_is_replaced_under_its_number(world: World) -> None:
    first, second = world.ready(2)
    first.process.kill()
    world.until(lambda: len(world.started) == 3)
    world.until(lambda: len(world.keeper.ready) == 2)
    assert world.started == [1, 2, 1]
    assert second in world.keeper.ready
    assert (world.keeper.deaths, world.keeper.hopeless) == (1, False)


def test_one_that_is_too_many_ends_when_it_has_nothing_to_do(world: World) -> None:
    world.ready(3)
    world.busy = {1, 2, 3}
    world.keeper.wanted = 1
    world.until(lambda: len(world.keeper.ready) == 1)
    leaving = [one for one in world.keeper.replicas if one.leaving_s is not None]
    assert len(leaving) == 2
    assert all(one.process.poll() is None for one in leaving), "what is under way is answered"
    world.busy.clear()
    world.until(lambda: len(world.keeper.replicas) == 1)
    assert world.keeper.deaths == 0, "it was told to"


def test_none_is_left_where_none_is_wanted_and_one_comes_again(world: World) -> None:
    world.ready(2)
    world.keeper.wanted = 0
    world.until(lambda: not world.keeper.replicas)
    assert len(world.ready(1)) == 1


def test_one_that_dies_before_it_answers_waits_longer_each_time_and_is_given_up(world: World) -> None:
    world.code, world.answers = "raise SystemExit(1)", False
    world.keeper.wanted = 1
    world.until(lambda: world.keeper.hopeless)
    assert len(world.started) == replicas.FAILED_STARTS
    world.keeper.tick()
    assert not world.keeper.replicas, "the pause is longer each time"


def test_one_that_once_answered_is_tried_again_for_ever(world: World) -> None:
    (first,) = world.ready(1)
    world.code, world.answers = "raise SystemExit(1)", False
    first.process.kill()
    world.until(lambda: world.keeper.deaths == 1 + replicas.FAILED_STARTS)
    assert not world.keeper.hopeless
    world.code, world.answers = SLEEPS, True
    assert len(world.ready(1)) == 1


def test_at_the_end_all_are_told_and_who_does_not_listen_is_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "END_S", 0.2)
    world.code = STUBBORN
    stubborn = world.ready(1)[0].process
    world.code = SLEEPS
    other = world.ready(2)[1].process
    world.keeper.close()
    assert (stubborn.poll(), other.poll(), world.keeper.replicas) == (-9, -15, [])
