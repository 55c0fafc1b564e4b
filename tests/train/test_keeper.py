"""The keeper: where a loop goes on, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bedplate.core.errors import CheckpointError
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper, bare
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
