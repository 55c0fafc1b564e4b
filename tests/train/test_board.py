import os
import random
import signal
import time

import numpy as np
import pytest
import torch

from bedplate.train.board import KEPT_STEPS, Board, packed_generators, print_of_generators, restore_packed


def draw() -> tuple[float, float, float, float]:
    return torch.rand(1).item(), float(np.random.normal()), random.gauss(0, 1), random.random()


def test_what_a_dead_rank_would_have_drawn_is_drawn_by_another_process() -> None:
    board = Board(2)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        draw()  # also leaves half of a pair of gaussians in numpy and Python
        board.seat(1).keep_generators(7)
        os.write(writing, repr(draw()).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    kept = board.seat(1).generators(7)
    assert kept is not None
    restore_packed(kept)
    assert repr(draw()) == os.read(reading, 1000).decode()
    os.close(reading)
    os.close(writing)


def test_the_last_steps_are_kept_and_no_others() -> None:
    seat = Board(1).seat(0)
    for step in range(10):
        seat.keep_generators(step)
    assert [seat.generators(step) is not None for step in range(10)] == [False] * (10 - KEPT_STEPS) + [True] * KEPT_STEPS


def test_a_record_that_was_not_written_whole_is_not_read() -> None:
    board = Board(1)
    seat = board.seat(0)
    seat.keep_generators(4)
    start = 64 + 64 + (4 % KEPT_STEPS) * 16_384
    board._memory[start : start + 8] = (99).to_bytes(8, "little")  # as a rank leaves it that is killed in between
    assert seat.generators(4) is None


def test_the_print_changes_with_every_draw() -> None:
    before = print_of_generators()
    assert print_of_generators() == before
    for one in (lambda: torch.rand(1), lambda: np.random.rand(), random.random):
        one()
        assert print_of_generators() != before
        before = print_of_generators()


def test_packing_is_exact_and_small() -> None:
    data = packed_generators()
    first = draw()
    restore_packed(data)
    assert draw() == first
    assert len(data) < 16_000


def test_a_rank_says_where_it_is() -> None:
    board = Board(3)
    seat = board.seat(2)
    seat.clear()
    assert (seat.standing().steps, seat.standing().place) == (-1, "start")
    seat.move("input", 0)
    time.sleep(0.02)
    seat.move("user")
    seat.move("input", 1)
    standing = board.seat(2).standing()
    assert (standing.steps, standing.place) == (1, "input")
    assert standing.longest_step_s >= 0.02
    assert standing.moved_at_s <= time.monotonic()
    with pytest.raises(IndexError):
        board.seat(3)


def test_the_host_calls_for_a_generation() -> None:
    board = Board(1)
    assert board.called == 0
    board.called = 3
    assert board.called == 3
