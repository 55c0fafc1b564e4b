"""Attempts: what a worker is told comes back whole, and a process is never taken for another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bedplate.core.atomic import write_json
from bedplate.core.attempt import (
    ATTEMPT_FILE,
    IDENTITY_FILE,
    Attempt,
    Identity,
    boot_id,
    is_alive,
    own_identity,
    read_attempt,
    read_identity,
    start_ticks,
)

ATTEMPT = Attempt(
    run="train-1",
    token=2,
    step="train",
    kind="train",
    folder="/state/runs/train-1/2",
    root="/project",
    state="/state",
    code="/state/code/abc",
    spec={"function": "train.py:train", "params": {"lr": 0.001}},
    inputs={"arrivals": {"number": 3}},
    argv=("python", "-m", "x"),
    shim_argv=("python", "-m", "y"),
    world_size=2,
    accelerators=(0, 1),
    environment={"A": "1"},
    checkpoint={"step": 10},
    max_time_s=3600.0,
)


@pytest.mark.parametrize("attempt", [ATTEMPT, replace(ATTEMPT, accelerators=(), checkpoint=None, max_time_s=None, restart=True)])
def test_an_attempt_comes_back_from_its_file(tmp_path: Path, attempt: Attempt) -> None:
    write_json(tmp_path / ATTEMPT_FILE, attempt.to_json())
    assert read_attempt(tmp_path) == attempt


def test_all_that_an_attempt_writes_is_in_its_own_folder() -> None:
    for path in (ATTEMPT.out, ATTEMPT.log(0), ATTEMPT.log(1)):
        assert path.is_relative_to(ATTEMPT.path)
    assert ATTEMPT.log(0) != ATTEMPT.log(1)


def test_an_attempt_that_was_never_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_attempt(tmp_path)


def test_this_process_knows_itself() -> None:
    identity = own_identity(3)
    assert (identity.pid, identity.token, identity.boot_id) == (os.getpid(), 3, boot_id())
    assert identity.boot_id
    assert identity.start_ticks > 0
    assert is_alive(identity)


def test_a_process_that_ended_is_dead_also_before_it_is_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = Identity(boot_id(), process.pid, start_ticks(process.pid) or 0, 1)
    assert is_alive(identity)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert Path(f"/proc/{process.pid}").exists()
    assert not is_alive(identity)
    process.communicate()
    assert start_ticks(process.pid) is None
    assert not is_alive(identity)


@pytest.mark.parametrize("change", [{"boot_id": "another"}, {"start_ticks": 1}, {"pid": 2**22 + 1}])
def test_another_process_with_the_same_number_is_another(change: dict[str, object]) -> None:
    assert not is_alive(replace(own_identity(1), **change))


def test_a_process_may_be_called_anything(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as process:
        ticks = start_ticks(process.pid)
        process.kill()
    assert ticks is not None
    assert abs(ticks - own_identity(0).start_ticks) < 100 * 86400


def test_an_identity_is_read_once_it_is_there(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    write_json(tmp_path / IDENTITY_FILE, asdict(own_identity(2)))
    assert read_identity(tmp_path) == own_identity(2)
    (tmp_path / IDENTITY_FILE).write_text(json.dumps({"pid": 1}))
    with pytest.raises(TypeError):
        read_identity(tmp_path)


def test_the_shim_can_read_an_attempt_with_the_standard_library_only() -> None:
    script = (
        "import sys, bedplate.core.attempt, bedplate.core.journal; print([n for n in sys.modules if n in ('pydantic', 'blake3', 'yaml')])"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) == "[]\n"
