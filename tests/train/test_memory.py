import torch

from bedplate.train.board import Board
from bedplate.train.checkpoints.content import Position
from bedplate.train.memory import Followed, Memory
from bedplate.train.seat import Assignment, Seat


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
