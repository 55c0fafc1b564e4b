"""The keeper: where a loop goes on, and what does not fit is refused."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bedplate.core.attempt import Attempt
from bedplate.core.errors import CheckpointError, SpecError
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group
from bedplate.train.keeper import CHECKPOINT_EVERY_S, Keeper, bare
from train.samples import attempt_in, journal_of

CPU = torch.device("cpu")
FACTS = {"split": "train", "batch_size": 8, "seed": 0}


def keeper(folder: Path, token: int = 1, checkpoint: dict[str, object] | None = None) -> tuple[Keeper, Path]:
    attempt = attempt_in(folder, token=token, checkpoint=checkpoint)
    return Keeper(attempt, JournalWriter(attempt.path, "rank-0"), Group(0, 1), CPU), attempt.path


def saved(folder: Path) -> tuple[torch.nn.Linear, dict[str, object]]:
    """A checkpoint of a layer at step 7 of loop 1, as the journal tells of it."""
    attempt = attempt_in(folder)
    layer = torch.nn.Linear(2, 2)
    first = Keeper(attempt, JournalWriter(attempt.path, "rank-0"), Group(0, 1), CPU)
    first.save(Position(1, 0, 56, 7), [layer], FACTS)
    first.wait()
    return layer, dict(journal_of(attempt, "checkpoint")[-1].body)


def test_without_a_checkpoint_every_loop_begins_at_its_beginning(tmp_path: Path) -> None:
    first, _ = keeper(tmp_path)
    assert first.restore(0, [torch.nn.Linear(2, 2)], FACTS) == Position(0, 0, 0, 0)


def test_loops_before_the_checkpoint_are_behind_and_its_own_goes_on_with_its_state(tmp_path: Path) -> None:
    layer, known = saved(tmp_path)
    second, _ = keeper(tmp_path, 2, known)
    assert second.restore(0, [torch.nn.Linear(2, 2)], FACTS) is None
    other = torch.nn.Linear(2, 2)
    assert second.restore(1, [other], FACTS) == Position(1, 0, 56, 7)
    assert torch.equal(other.weight, layer.weight)
    assert second.steps == 7
    assert second.restore(2, [other], FACTS) == Position(2, 0, 0, 7)


def test_a_checkpoint_of_another_loop_is_refused(tmp_path: Path) -> None:
    _, known = saved(tmp_path)
    second, _ = keeper(tmp_path, 2, known)
    with pytest.raises(CheckpointError, match="another loop"):
        second.restore(1, [torch.nn.Linear(2, 2)], {**FACTS, "batch_size": 16})


def test_what_has_no_wrapper_is_itself() -> None:
    layer = torch.nn.Linear(2, 2)
    assert bare(layer) is layer


def keeping(folder: Path, rank: int = 0, world_size: int = 1, **spec: Any) -> tuple[Keeper, Attempt]:
    attempt = attempt_in(folder)
    attempt = replace(attempt, spec={**attempt.spec, **spec})
    return Keeper(attempt, JournalWriter(attempt.path, f"rank-{rank}"), Group(rank, world_size), CPU), attempt


@pytest.mark.parametrize(
    ("spec", "before_s", "after_s"),
    [
        ({}, CHECKPOINT_EVERY_S - 5, CHECKPOINT_EVERY_S),
        ({"checkpoint_every_s": 100}, 95, 100),
        ({"checkpoint": {"every_s": 50}, "checkpoint_every_s": 100}, 45, 50),
        # Daly's interval for a stall of 2 s and a failure every 100 s is 18.69 s
        ({"checkpoint": {"every_s": "auto", "stall_s": 2.0, "mtbf_s": 100.0}}, 18, 18.7),
    ],
)
def test_a_checkpoint_is_due_when_its_time_has_come(tmp_path: Path, spec: dict[str, Any], before_s: float, after_s: float) -> None:
    made, _ = keeping(tmp_path, **spec)
    made._saved_at_s = time.monotonic() - before_s
    assert not made.due()
    made._saved_at_s = time.monotonic() - after_s
    assert made.due()


def test_only_rank_0_says_when(tmp_path: Path) -> None:
    made, _ = keeping(tmp_path, rank=1, world_size=2, checkpoint_every_s=0)
    assert not made.due()


def test_after_a_save_the_next_is_due_later(tmp_path: Path) -> None:
    made, attempt = keeping(tmp_path, checkpoint_every_s=50)
    made._saved_at_s -= 60
    assert made.due()
    made.save(Position(0, 0, 8, 1), [torch.nn.Linear(1, 1)], FACTS)
    made.wait()
    assert not made.due()
    assert [entry.body["step"] for entry in journal_of(attempt, "checkpoint")] == [1]


def test_tiers_and_retention_that_cannot_be_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown tier"):
        keeping(tmp_path / "a", checkpoint={"tiers": ["floppy"]})
    with pytest.raises(SpecError, match="at least the last"):
        keeping(tmp_path / "b", checkpoint={"keep": {"last": 0}})


def test_generators_go_on_where_the_checkpoint_was_made(tmp_path: Path) -> None:
    first, attempt = keeping(tmp_path)
    layer = torch.nn.Linear(1, 1)
    first.save(Position(0, 0, 8, 1), [layer], FACTS)
    expected = [torch.rand(1).item(), random.random()]
    first.wait()
    known = dict(journal_of(attempt, "checkpoint")[-1].body)
    second, _ = keeper(tmp_path, 2, known)
    torch.rand(9)
    random.random()
    assert second.restore(0, [layer], FACTS) == Position(0, 0, 8, 1)
    assert [torch.rand(1).item(), random.random()] == expected


def test_a_checkpoint_that_is_gone_is_passed_over_for_the_one_before_and_told(tmp_path: Path) -> None:
    first, attempt = keeping(tmp_path)
    layer = torch.nn.Linear(1, 1)
    for step in (1, 2):
        first.save(Position(0, 0, 8 * step, step), [layer], FACTS)
        first.wait()
    older, newest = (dict(entry.body) for entry in journal_of(attempt, "checkpoint"))
    shutil.rmtree(tmp_path / newest["location"])
    second, path = keeper(tmp_path, 2, {**newest, "previous": [older]})
    assert second.restore(0, [layer], FACTS) == Position(0, 0, 8, 1)
    (told,) = [entry.body["text"] for entry in JournalReader(path).read() if entry.kind == "message"]
    assert told.startswith("checkpoint of step 2 is passed over: ")
    assert "\n" not in told


def test_where_no_checkpoint_is_whole_the_run_begins_anew(tmp_path: Path) -> None:
    _, known = saved(tmp_path)
    shutil.rmtree(tmp_path / str(known["location"]))
    second, _ = keeper(tmp_path, 2, known)
    assert second.restore(0, [torch.nn.Linear(2, 2)], FACTS) == Position(0, 0, 0, 0)
    assert second.steps == 0
