"""The writer: what the training step sees of it, what lies there afterwards, and what is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bedplate.core.attempt import Attempt
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.folders import shared_memory
from bedplate.train.checkpoints.layout import Box
from bedplate.train.checkpoints.reading import Stored, opened
from bedplate.train.checkpoints.retention import Keep
from bedplate.train.checkpoints.tiers import tiers_of
from bedplate.train.checkpoints.writer import CheckpointWriter, Content
from bedplate.train.distributed import Group
from train.samples import attempt_in, journal_of, wait_until


class Kept:
    """A state of one tensor."""

    def __init__(self, value: float, size: int = 12) -> None:
        self.tensor = torch.full((size,), value)

    def state_dict(self) -> dict[str, Any]:
        return {"w": self.tensor, "name": "kept"}


def writer_of(attempt: Attempt, keep: Keep | None = None, tiers: list[str] | None = None) -> CheckpointWriter:
    journal = JournalWriter(attempt.path, "rank-0")
    return CheckpointWriter(attempt, journal, Group(0, 1), tiers_of(tiers, Path(attempt.state)), keep or Keep())


def content(step: int, state: Any, loss: float | None = None) -> Content:
    return Content(Position(0, 1, 64 * step, step), [state], {"torch": "x"}, {"batch_size": 64}, {} if loss is None else {"loss": loss})


def written(attempt: Attempt, *steps: int, **settings: Any) -> list[dict[str, Any]]:
    writer = writer_of(attempt, **settings)
    for step in steps:
        writer.begin(content(step, Kept(float(step)), 1 / step))
    writer.wait()
    return [dict(entry.body) for entry in journal_of(attempt, "checkpoint")]


def read(attempt: Attempt, known: dict[str, Any], tiers: list[str] | None = None) -> Stored:
    return opened(known["location"], known["digest"], tiers_of(tiers, Path(attempt.state)).places)


def present(attempt: Attempt) -> list[str]:
    return sorted(path.name for path in (attempt.path / "checkpoints").iterdir())


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(shared_memory(tmp_path).root, ignore_errors=True)


def test_what_was_written_is_told_and_read(state: Path) -> None:
    attempt = attempt_in(state)
    (known,) = written(attempt, 3)
    assert known["location"] == "runs/r1/1/checkpoints/step-3"
    assert (known["step"], known["epoch"], known["position"], known["tier"]) == (3, 1, 192, "disk")
    assert known["metrics"] == {"loss": 1 / 3}
    assert 0 < known["stall_s"] < 60
    found = read(attempt, known)
    assert (found.position, found.facts, found.generators) == (Position(0, 1, 192, 3), {"batch_size": 64}, [{"torch": "x"}])
    assert present(attempt) == ["step-3"]
    assert sorted(path.name for path in (attempt.path / "checkpoints" / "step-3").iterdir()) == [
        "manifest.json",
        "part-0.json",
        "part-0.safetensors",
    ]


def test_the_last_two_are_kept_and_a_step_is_written_once(state: Path) -> None:
    attempt = attempt_in(state)
    assert [each["step"] for each in written(attempt, 1, 2, 3, 3)] == [1, 2, 3]
    assert present(attempt) == ["step-2", "step-3"]


def test_what_is_kept_can_be_chosen(state: Path) -> None:
    attempt = attempt_in(state)
    written(attempt, 1, 2, 3, 4, 5, 6, keep=Keep(last=1, every=4, best="-loss"))
    assert present(attempt) == ["step-1", "step-4", "step-6"]


def test_a_later_generation_of_the_attempt_goes_on_counting_and_deleting(state: Path) -> None:
    attempt = attempt_in(state)
    written(attempt, 1, 2, keep=Keep(last=2, every=3))
    written(attempt, 3, 4, 5, keep=Keep(last=2, every=3))
    assert present(attempt) == ["step-3", "step-4", "step-5"]


def test_a_step_that_comes_again_after_going_back_has_a_place_of_its_own(state: Path) -> None:
    attempt = attempt_in(state)
    written(attempt, 1, 2)
    known = written(attempt, 2)
    assert known[-1]["location"].startswith("runs/r1/1/checkpoints/step-2-")
    for each in known[-2:]:
        assert read(attempt, each).position.step == 2


def test_the_one_restored_from_is_never_deleted(state: Path) -> None:
    first = attempt_in(state)
    known = written(first, 1)[0]
    written(attempt_in(state, token=2, checkpoint=known), 2, 3, 4, 5)
    assert read(first, known).position.step == 1


def test_copies_do_not_follow_the_training_that_goes_on(state: Path) -> None:
    attempt = attempt_in(state)
    writer, kept = writer_of(attempt), Kept(0.0, 1 << 20)
    for step in (1, 2):
        kept.tensor += 1
        writer.begin(content(step, kept))
        kept.tensor += 100  # while it is being written
        kept.tensor -= 100
    writer.wait()
    for entry in journal_of(attempt, "checkpoint"):
        found = read(attempt, dict(entry.body))
        assert found.read("0.w", Box((0,), (1 << 20,))).unique().tolist() == [float(entry.body["step"])]


def test_a_disk_that_refuses_is_told_and_the_training_goes_on(state: Path) -> None:
    attempt = attempt_in(state)
    (attempt.path / "checkpoints").write_text("a file where the folder would be")
    writer = writer_of(attempt)
    writer.begin(content(1, Kept(1.0)))
    writer.wait()
    assert writer.failed
    assert journal_of(attempt, "checkpoint") == []
    (notice,) = journal_of(attempt, "notice")
    assert notice.body["failure"] == "storage"
    assert "step 1 could not be written to disk" in notice.body["message"]
    (attempt.path / "checkpoints").unlink()
    writer.begin(content(2, Kept(2.0)))
    writer.wait()
    assert not writer.failed
    assert present(attempt) == ["step-2"]


def test_memory_comes_first_and_the_disk_has_the_same(state: Path) -> None:
    attempt = attempt_in(state)
    (known,) = written(attempt, 1, tiers=["memory", "disk"])
    assert known["tier"] == "memory"
    (stored,) = journal_of(attempt, "checkpoint_stored")
    assert (stored.body["step"], stored.body["tier"], stored.body["location"]) == (1, "disk", known["location"])
    memory = shared_memory(state).path(known["location"])
    for name in ("manifest.json", "part-0.json", "part-0.safetensors"):
        assert (memory / name).read_bytes() == (state / known["location"] / name).read_bytes()


def test_memory_is_given_back_after_a_success(state: Path) -> None:
    attempt = attempt_in(state)
    writer = writer_of(attempt, tiers=["memory", "disk"])
    writer.begin(content(1, Kept(1.0)))
    writer.clear_memory()
    assert not list(shared_memory(state).root.rglob("*.safetensors"))
    assert present(attempt) == ["step-1"]


def test_an_object_store_gets_a_copy_and_only_what_is_kept_stays(state: Path) -> None:
    (state / "bucket").mkdir()
    attempt, url = attempt_in(state), f"file://{state}/bucket"
    writer = writer_of(attempt, Keep(last=1), ["disk", url])
    for step in (1, 2):
        writer.begin(content(step, Kept(float(step))))
        writer.settle(60)
    wait_until(lambda: len(journal_of(attempt, "checkpoint_stored")) == 2)
    assert [path.name for path in (state / "bucket" / "runs/r1/1/checkpoints").iterdir() if any(path.iterdir())] == ["step-2"]
    known = dict(journal_of(attempt, "checkpoint")[-1].body)
    shutil.rmtree(attempt.path / "checkpoints")
    found = read(attempt, known, ["disk", url])
    found.verify([0])
    assert found.position.step == 2


def test_a_rank_that_died_is_not_waited_for(state: Path) -> None:
    attempt = replace(attempt_in(state), world_size=2)
    writer = writer_of(attempt)
    writer.begin(content(1, Kept(1.0)))
    writer.wait()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    writer._group.world_size = 2  # as when it was two that began; the other one is gone
    writer._ranks.append(replace(writer._ranks[0], pid=pid, start_ticks=1))
    writer._group.agree = lambda values: list(values)  # type: ignore[method-assign]
    writer.begin(content(2, Kept(2.0)))
    writer.wait()
    os.waitpid(pid, 0)
    (notice,) = journal_of(attempt, "notice")
    assert "the part of rank 1 did not come" in notice.body["message"]
    assert [entry.body["step"] for entry in journal_of(attempt, "checkpoint")] == [1]
