"""Nothing that is killed in the middle of a save, and no flipped bit, costs more than the save that was under way."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper
from train.samples import attempt_in, journal_of

TESTS = Path(__file__).parents[2]
CPU = torch.device("cpu")
FACTS = {"of": "flips"}


def test_kills_in_the_middle_of_saves_leave_every_committed_checkpoint_whole(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills, seed = request.config.getoption("--save-kills"), request.config.getoption("--crash-seed")
    path = os.pathsep.join([str(TESTS), *(each for each in sys.path if each)])
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), str(tmp_path), str(kills), str(seed)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60 + 3 * kills, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(f"seed {seed}: {found}")
    assert found["committed"] >= 0.9 * found["kills"], "most kills came before there was anything to lose"
    assert (found["corrupt"], found["lost"]) == (0, 0), found["bad"]


def test_a_flipped_bit_is_found_and_the_checkpoint_before_is_taken_and_one_line_says_so(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    attempt = attempt_in(tmp_path)
    keeper = Keeper(attempt, JournalWriter(attempt.path, "rank-0"), Group(0, 1), CPU)
    layer = torch.nn.Linear(300, 300)
    for step in (1, 2):
        torch.nn.init.constant_(layer.weight, step)
        keeper.save(Position(0, 0, step, step), [layer], FACTS)
    keeper.wait()
    older, newer = [dict(entry.body) for entry in journal_of(attempt, "checkpoint")]
    folder = tmp_path / newer["location"]
    source = random.Random(request.config.getoption("--crash-seed"))
    files = sorted(folder.iterdir())
    for flip in range(request.config.getoption("--flips")):
        path = files[flip % len(files)]
        at, bit = source.randrange(path.stat().st_size), source.randrange(8)
        _flip(path, at, bit)
        told, value, position = _restored(tmp_path, flip + 2, {**newer, "previous": [older]})
        assert (position.step, value) == (1, 1.0), f"{path.name}, byte {at}, bit {bit}"
        assert len(told) == 1
        assert "step 2 is passed over" in told[0]
        assert path.name in told[0]
        _flip(path, at, bit)
    assert _restored(tmp_path, 9999, {**newer, "previous": [older]})[1:] == (2.0, Position(0, 0, 2, 2))


def _flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))


def _restored(state: Path, token: int, known: dict[str, Any]) -> tuple[list[str], float, Position]:
    attempt = attempt_in(state, token=token, checkpoint=known)
    layer = torch.nn.Linear(300, 300)
    position = Keeper(attempt, JournalWriter(attempt.path, "rank-0"), Group(0, 1), CPU).restore(0, [layer], FACTS)
    assert position is not None
    (value,) = layer.weight.unique().tolist()
    return [entry.body["text"] for entry in journal_of(attempt, "message")], value, position
