import mmap
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bedplate.train.board import KEPT_STEPS, PLACES, RECORD_BYTES, SEAT_BYTES, Board, packed_generators, print_of_generators, restore_packed


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


@pytest.mark.parametrize("place", PLACES)
def test_every_place_of_the_loop_can_be_said(place: str) -> None:
    seat = Board(1).seat(0)
    seat.move(place)
    assert seat.standing().place == place


def test_a_place_that_is_none_is_refused_and_leaves_the_rank_where_it_was() -> None:
    seat = Board(1).seat(0)
    seat.move("user", 4)
    with pytest.raises(ValueError, match=r"tuple\.index"):
        seat.move("lunch", 9)
    assert (seat.standing().steps, seat.standing().place) == (4, "user")


@pytest.mark.parametrize("number", [-1, 2, 100])
def test_there_are_only_as_many_seats_as_were_asked_for(number: int) -> None:
    with pytest.raises(IndexError, match=str(number)):
        Board(2).seat(number)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(PLACES), st.none() | st.integers(0, 1000)), max_size=30))
def test_seats_do_not_touch_one_another(moves: list[tuple[int, str, int | None]]) -> None:
    board = Board(4)
    expected: dict[int, tuple[int, str]] = {}
    for number in range(4):
        board.seat(number).clear()
        expected[number] = (-1, "start")
    for number, place, steps in moves:
        board.seat(number).move(place, steps)
        expected[number] = (expected[number][0] if steps is None else steps, place)
    assert {number: (each.steps, each.place) for number, each in ((n, board.seat(n).standing()) for n in range(4))} == expected
    assert board.called == 0, "the host's own word lies before all seats"


def test_records_of_neighbours_are_apart() -> None:
    board = Board(2)
    random.seed(1)
    board.seat(0).keep_generators(5)
    random.seed(2)
    board.seat(1).keep_generators(5)
    assert board.seat(0).generators(5) != board.seat(1).generators(5)
    random.seed(1)
    assert board.seat(0).generators(5) == packed_generators()


def test_a_jump_over_steps_is_no_long_step() -> None:
    seat = Board(1).seat(0)
    seat.clear()
    seat.move("input", 0)
    time.sleep(0.05)
    seat.move("input", 7)  # a run that went on from a checkpoint
    assert seat.standing().longest_step_s == 0.0
    seat.move("input", 8)
    assert 0 < seat.standing().longest_step_s < 0.05


def test_the_longest_step_is_kept_when_shorter_ones_follow_and_forgotten_by_a_replacement() -> None:
    seat = Board(1).seat(0)
    seat.clear()
    seat.move("input", 0)
    time.sleep(0.03)
    seat.move("input", 1)
    longest_s = seat.standing().longest_step_s
    for step in range(2, 10):
        seat.move("input", step)
    assert seat.standing().longest_step_s == longest_s >= 0.03
    seat.keep_generators(9)
    seat.clear()
    assert (seat.standing().steps, seat.standing().longest_step_s) == (-1, 0.0)
    assert seat.generators(9) is not None, "the generators of its predecessor stay"


@pytest.mark.parametrize("step", [0, 1, 2, 3, 2**40])
def test_an_empty_seat_has_no_generators(step: int) -> None:
    assert Board(1).seat(0).generators(step) is None


def test_a_step_that_is_done_again_takes_the_place_of_the_first() -> None:
    seat = Board(1).seat(0)
    random.seed(1)
    seat.keep_generators(6)
    random.seed(2)
    expected = packed_generators()
    seat.keep_generators(6)
    assert seat.generators(6) == expected


@pytest.mark.parametrize("length", [0, -1, RECORD_BYTES - 31, 2**60])
def test_a_record_of_an_impossible_length_is_not_read(length: int) -> None:
    board = Board(1)
    board.seat(0).keep_generators(3)
    start = 128 + (3 % KEPT_STEPS) * RECORD_BYTES
    board._memory[start + 16 : start + 24] = length.to_bytes(8, "little", signed=True)
    assert board.seat(0).generators(3) is None


def test_a_record_fits_and_a_board_is_no_larger_than_its_seats() -> None:
    assert len(packed_generators()) <= RECORD_BYTES - 32
    board = Board(3)
    assert isinstance(board._memory, mmap.mmap)
    assert len(board._memory) == 64 + 3 * SEAT_BYTES


@given(st.integers(0, 2**62))
def test_a_call_for_any_generation_is_read_as_it_was_written(generation: int) -> None:
    board = Board(1)
    board.called = generation
    assert board.called == generation
    assert board.seat(0).standing().steps == 0


@pytest.mark.parametrize("gaussians", [0, 1, 2, 3])
def test_a_pair_of_gaussians_of_which_one_was_taken_goes_on_with_the_other(gaussians: int) -> None:
    np.random.seed(3)
    random.seed(3)
    for _ in range(gaussians):
        np.random.normal()
        random.gauss(0, 1)
    data = packed_generators()
    expected = [(float(np.random.normal()), random.gauss(0, 1)) for _ in range(4)]
    draw()
    restore_packed(data)
    assert [(float(np.random.normal()), random.gauss(0, 1)) for _ in range(4)] == expected
    restore_packed(data)
    assert packed_generators() == data
