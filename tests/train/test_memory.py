import dataclasses
import random
import socket
from typing import Any

import numpy as np
import pytest
import torch

from bedplate.train.board import Board
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group
from bedplate.train.memory import Followed, Memory, position_json
from bedplate.train.seat import Assignment, Line, Seat


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.rand(8, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def parts(*, fused: bool = False) -> tuple[torch.nn.Sequential, torch.optim.AdamW, torch.optim.lr_scheduler.LRScheduler]:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    return model, optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=9)


def test_a_forward_and_a_backward_pass_leave_the_state_whole_and_a_step_does_not() -> None:
    for fused in (False, True):
        model, optimizer, schedule = parts(fused=fused)
        followed = Followed([model, optimizer, schedule])
        followed.mark()
        model(torch.rand(8, 4)).sum().backward()
        assert followed.whole()
        optimizer.step()
        assert not followed.whole()
        followed.mark()
        assert followed.whole()
        with torch.no_grad():
            model[0].weight.mul_(2)  # a step of the user's own making
        assert not followed.whole()


def test_buffers_and_schedules_are_given_as_they_were_at_the_mark() -> None:
    model, optimizer, schedule = parts()
    step(model, optimizer)
    followed = Followed([model, optimizer, schedule])
    followed.mark()
    mean, epoch = model[1].running_mean.clone(), schedule.last_epoch
    model(torch.rand(8, 4) + 5)
    schedule.last_epoch = 4
    assert not torch.equal(model[1].running_mean, mean)
    weights, _, schedules = followed.states()
    assert torch.equal(weights["1.running_mean"], mean)
    assert schedules["last_epoch"] == epoch


def memory(*, keeps: bool = True, assignment: Assignment | None = None) -> Memory:
    return Memory(Seat(0, 2, board=Board(2), assignment=assignment), keeps=keeps)


def test_what_is_held_is_the_last_whole_step() -> None:
    model, optimizer, _ = parts()
    kept = memory()
    kept.follow(Position(0, 0, 0, 0), [model, optimizer])
    step(model, optimizer)
    kept.mark(Position(0, 0, 64, 1))
    assert kept.hold() == Position(0, 0, 64, 1)
    assert kept.hold() == Position(0, 0, 64, 1), "it stays, should the next generation break before its first step"
    kept.begin()
    kept.follow(Position(0, 0, 64, 1), [model, optimizer])
    optimizer.step()
    step(model, optimizer)
    assert kept.hold() is None


def test_a_rank_with_a_part_of_the_model_holds_nothing() -> None:
    model, optimizer, _ = parts()
    kept = memory(keeps=False)
    kept.follow(Position(0, 0, 0, 0), [model, optimizer])
    assert kept.hold() is None


def test_metrics_of_steps_that_will_be_done_again_are_dropped() -> None:
    kept = memory(assignment=Assignment(1, 0, 2, source=0, position={"loop": 0, "epoch": 0, "sample": 64, "step": 3}))
    kept.pending = [(number, "loss", 0.0) for number in range(1, 6)]
    kept.begin()
    assert [number for number, _, _ in kept.pending] == [1, 2, 3]


def test_batches_that_are_left_out() -> None:
    kept = memory(assignment=Assignment(1, 0, 2, skip=((0, 1, 64),)))
    assert kept.skips(0, 1, 64)
    assert not kept.skips(0, 1, 128)
    assert not memory().skips(0, 1, 64)


ALONE = Group(0, 1)  # shares with nobody


def test_a_generation_that_goes_on_from_memory_has_the_state_and_the_generators_of_the_mark() -> None:
    model, optimizer, schedule = parts()
    board = Board(2)
    seat = Seat(0, 2, board=board)
    kept = Memory(seat, keeps=True)
    kept.follow(Position(0, 0, 0, 0), [model, optimizer, schedule])
    step(model, optimizer)
    schedule.step()
    kept.mark(Position(0, 1, 64, 1))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = [torch.rand(1).item(), float(np.random.rand()), random.random()]
    assert kept.hold() == Position(0, 1, 64, 1)
    seat.assignment = Assignment(1, 0, 2, source=0, position=position_json(Position(0, 1, 64, 1)), drawn_by=0)
    kept.begin()
    assert kept.gives()
    other, its_optimizer, its_schedule = parts()
    its_schedule.last_epoch = 99
    assert kept.restore(0, [other, its_optimizer, its_schedule], ALONE) == (Position(0, 1, 64, 1), 1)
    assert not kept.gives(), "the next loop of this generation does not go on from memory again"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in other.state_dict().items())
    assert its_optimizer.state_dict()["state"][0]["step"] == 1
    assert its_schedule.last_epoch == 1
    assert [torch.rand(1).item(), float(np.random.rand()), random.random()] == expected


def test_the_numbers_are_those_of_the_seat_that_a_rank_takes_over() -> None:
    board = Board(2)
    random.seed(5)
    board.seat(1).keep_generators(3)
    expected = random.random()
    position = Position(0, 0, 0, 3)
    assignment = Assignment(1, 0, 2, source=0, position=position_json(position), drawn_by=1)
    kept = Memory(Seat(0, 2, board=board, assignment=assignment), keeps=True)
    kept.follow(position, [torch.nn.Linear(1, 1)])
    kept.hold()
    kept.restore(0, [torch.nn.Linear(1, 1)], ALONE)
    assert random.random() == expected


def test_a_loop_that_is_behind_is_passed_and_the_next_one_still_takes_the_state() -> None:
    position = Position(1, 0, 128, 9)
    kept = memory(assignment=Assignment(1, 0, 2, source=0, position=position_json(position)))
    layer, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    before = other.weight.clone()
    kept.follow(position, [layer])
    kept.hold()
    assert kept.restore(0, [other], ALONE) == (None, 9)
    assert kept.gives()
    assert torch.equal(other.weight, before)
    assert kept.restore(1, [other], ALONE) == (position, 9)
    assert torch.equal(other.weight, layer.weight)


@pytest.mark.parametrize(
    ("assignment", "gives"),
    [
        (None, False),
        (Assignment(1, 0, 2), False),
        (Assignment(1, 0, 2, checkpoint={"step": 4}), False),
        (Assignment(1, 0, 2, source=1), True),
    ],
)
def test_only_an_assignment_with_a_source_goes_on_from_memory(assignment: Assignment | None, gives: bool) -> None:
    assert memory(assignment=assignment).gives() is gives


def held_at(source: int, step_: int = 1) -> Position | None:
    """What a rank 0 that held a state still holds in a generation whose source is rank `source`."""
    model, optimizer, _ = parts()
    kept = memory()
    kept.follow(Position(0, 0, 0, step_), [model, optimizer])
    kept.hold()
    kept._seat.assignment = Assignment(1, 0, 2, source=source, position=position_json(Position(0, 0, 0, step_)))
    kept.begin()
    return kept.hold()


def test_the_state_of_a_rank_that_is_not_the_source_is_let_go() -> None:
    assert held_at(source=0) == Position(0, 0, 0, 1)
    assert held_at(source=1) is None


@pytest.mark.parametrize(
    ("assignment", "kept_steps"),
    [
        (Assignment(1, 0, 2, source=0, position={"step": 2}), [1, 2]),
        (Assignment(1, 0, 2, checkpoint={"step": 4}), [1, 2, 3, 4]),
        (Assignment(1, 0, 2), []),
        (None, [1, 2, 3, 4, 5]),
    ],
)
def test_metrics_up_to_where_a_generation_goes_on_are_still_to_be_written(assignment: Assignment | None, kept_steps: list[int]) -> None:
    kept = memory(assignment=assignment)
    kept.pending = [(number, "loss", 0.0) for number in range(1, 6)]
    kept.begin()
    assert [number for number, _, _ in kept.pending] == kept_steps


def test_a_new_generation_stands_at_the_start() -> None:
    board = Board(2)
    kept = Memory(Seat(1, 2, board=board), keeps=True)
    kept.move("user", 4)
    assert (board.seat(1).standing().place, board.seat(1).standing().steps) == ("user", 4)
    kept.begin()
    assert board.seat(1).standing().place == "start"
    assert board.seat(0).standing().steps == 0, "another's seat is not touched"


def test_a_run_without_a_host_watches_nothing_and_says_nothing() -> None:
    model, optimizer, _ = parts()
    kept = Memory(Seat(0), keeps=True)
    kept.begin()
    kept.deals(64)
    kept.follow(Position(0, 0, 0, 0), [model, optimizer])
    kept.drawn()
    step(model, optimizer)
    kept.mark(Position(0, 0, 64, 1))
    assert kept.hold() is None
    assert not kept.called


@pytest.mark.parametrize(("called", "generation", "expected"), [(0, 0, False), (1, 0, True), (1, 1, False), (3, 1, True), (1, 2, False)])
def test_a_generation_is_called_for_when_it_is_later_than_this(called: int, generation: int, expected: bool) -> None:
    board = Board(2)
    board.called = called
    assert Memory(Seat(0, 2, generation, board=board), keeps=True).called is expected


def test_the_first_rank_tells_how_many_samples_a_batch_has() -> None:
    one, other = socket.socketpair()
    host = Line(one)
    for rank in (1, 0):
        Memory(Seat(rank, 2, line=Line(other)), keeps=True).deals(48 + rank)
    assert host.received(wait=True) == [{"kind": "loop", "batch_size": 48}]
    one.close()
    other.close()


def test_the_generators_of_a_step_that_is_nearly_done_are_on_the_board_before_its_mark() -> None:
    model, optimizer, _ = parts()
    board = Board(2)
    kept = Memory(Seat(0, 2, board=board), keeps=True)
    kept.follow(Position(0, 0, 0, 6), [model, optimizer])
    assert board.seat(0).generators(7) is None
    torch.rand(1)
    kept.drawn()
    first = board.seat(0).generators(7)
    assert first is not None
    kept.mark(Position(0, 0, 64, 7))
    assert board.seat(0).generators(7) == first
    kept.drawn()
    random.random()  # drawn after all, behind the last backward pass
    kept.mark(Position(0, 0, 128, 8))
    assert board.seat(0).generators(8) != first


def test_a_released_optimizer_is_watched_no_more() -> None:
    model, optimizer, _ = parts()
    followed = Followed([model, optimizer])
    followed.mark()
    followed.release()
    version = model[0].weight._version
    optimizer.zero_grad()
    optimizer.step()
    assert followed.whole(), "a step without gradients changes nothing, and nobody listens for it"
    assert model[0].weight._version == version


def test_a_step_of_the_optimizer_is_one_also_when_no_parameter_changed() -> None:
    model, optimizer, _ = parts()
    followed = Followed([model, optimizer])
    followed.mark()
    optimizer.step()  # no gradients, but it may have counted the step
    assert not followed.whole()


def test_states_of_the_users_own_are_copied_at_the_mark() -> None:
    class Counter:
        def __init__(self) -> None:
            self.seen: dict[str, Any] = {"rows": [1, 2]}

        def state_dict(self) -> dict[str, Any]:
            return self.seen

    counter = Counter()
    followed = Followed([counter])
    followed.mark()
    counter.seen["rows"].append(3)
    assert followed.whole()
    assert followed.states() == [{"rows": [1, 2]}]


@pytest.mark.parametrize("position", [None, Position(0, 1, 2, 3)])
def test_a_position_travels_to_the_host_and_back(position: Position | None) -> None:
    told = position_json(position)
    assert told == (None if position is None else dataclasses.asdict(position))
    assert (None if told is None else Position(**told)) == position
