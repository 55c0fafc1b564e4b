"""A run that is stopped and resumed is the run that nothing happened to: bit for bit at one world size, sample for sample at another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bedplate.core.attempt import Attempt
from train.samples import attempt_in, flights_feed, journal_of

STOPPED, BATCH, ROWS = 75, 48, 624  # of the 640 rows whole batches


def stopped(hosts: Any, state: Path, world_size: int) -> tuple[Attempt, int]:
    """An attempt that was stopped in its first epoch, and after how many steps."""
    attempt = attempt_in(state, world_size=world_size, params={"batch_size": BATCH, "at_step": 2, "act": "stop", "who": 0})
    assert hosts.run(attempt) == STOPPED
    (known,) = journal_of(attempt, "checkpoint")
    assert 2 <= known.body["step"] <= 5  # ranks meet at most four steps after the first
    return attempt, known.body["step"]


def resumed(hosts: Any, before: Attempt, world_size: int) -> Attempt:
    known = dict(journal_of(before, "checkpoint")[-1].body)
    attempt = attempt_in(Path(before.state), token=2, world_size=world_size, checkpoint=known, params={"batch_size": BATCH})
    assert hosts.run(attempt) == 0
    return attempt


def losses(*attempts: Attempt) -> dict[int, float]:
    entries = [entry.body for attempt in attempts for entry in journal_of(attempt, "metric")]
    return {body["step"]: body["values"]["loss"] for body in entries}


def seen(attempt: Attempt) -> list[list[int]]:
    texts = [(attempt.path / f"seen-{rank}").read_text() for rank in range(attempt.world_size)]
    return [[int(row) for row in text.strip("[]").split(",")] for text in texts]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_loss_curve_goes_on_with_the_same_bits(hosts: Any, tmp_path: Path, world_size: int) -> None:
    whole = attempt_in(tmp_path / "whole", world_size=world_size, params={"batch_size": BATCH})
    assert hosts.run(whole) == 0
    first, _ = stopped(hosts, tmp_path, world_size)
    second = resumed(hosts, first, world_size)
    assert losses(first, second) == losses(whole)
    ours, theirs = (load_file(attempt.out / "model" / "model.safetensors") for attempt in (second, whole))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("after", [2, 3])
def test_no_sample_is_skipped_or_seen_twice_at_another_world_size(hosts: Any, tmp_path: Path, after: int) -> None:
    first, steps = stopped(hosts, tmp_path, 4)
    second = resumed(hosts, first, after)
    feed = flights_feed()
    list(feed.batches("train", batch_size=BATCH, rank=0, world_size=1, epoch=0, seed=0))
    before = [row for rank in seen(first) for row in rank]
    left = ROWS - steps * BATCH
    now = [row for rank in seen(second) for row in rank[: left // after]]
    assert len(before) == steps * BATCH
    assert sorted(before + now) == sorted(feed.seen)
    assert len(set(before + now)) == ROWS
    assert sorted(row for rank in seen(second) for row in rank[left // after :]) == sorted(_epoch(1))


def _epoch(epoch: int) -> list[int]:
    feed = flights_feed()
    list(feed.batches("train", batch_size=BATCH, rank=0, world_size=1, epoch=epoch, seed=0))
    return feed.seen
