"""The leash: a command that dies with its shim, and is told like any other when it cannot be started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bedplate.cluster import leash


def leashed(folder: Path, *command: str, parent: int | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-I", "-S", leash.__file__, str(parent or os.getpid()), str(folder), *command]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def test_it_becomes_the_command_in_its_folder(tmp_path: Path) -> None:
    ended = leashed(tmp_path, "/bin/sh", "-c", 'echo "$0 $1"; pwd; exit 5', "a b", "c")
    assert (ended.returncode, ended.stdout.splitlines()) == (5, ["a b c", str(tmp_path)])


def test_the_command_has_signals_as_they_are_by_default(tmp_path: Path) -> None:
    """Python ignores some itself; a program that inherits that would not end when nobody reads it any more."""
    ignored = int(leashed(tmp_path, "grep", "SigIgn", "/proc/self/status").stdout.split()[1], 16)  # bit n - 1 is signal n, see proc(5)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored & 1 << (number - 1), f"{number.name} is ignored"
    assert leashed(tmp_path, "/bin/sh", "-c", "kill -INT $$").returncode == -signal.SIGINT


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    starter = f"""
import os, subprocess, sys
line = [sys.executable, "-I", "-S", {leash.__file__!r}, str(os.getpid()), ".", sys.executable, "-c", "print('up', flush=True); input()"]
subprocess.Popen(line, stdin=subprocess.PIPE).wait()
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.kill()
        assert parent.stdout.read() == "", "the pipe ends when the last that holds it is dead"


def test_it_starts_nothing_when_its_parent_died_before(tmp_path: Path) -> None:
    ended = leashed(tmp_path, "/bin/sh", "-c", "touch begun", parent=1)
    assert ended.returncode == leash.EXIT_ORPHANED
    assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize(
    ("folder", "command", "said"), [(".", "./absent", "No such file"), (".", "/", "denied"), ("absent", "true", "No such file")]
)
def test_what_cannot_be_started_is_told(tmp_path: Path, folder: str, command: str, said: str) -> None:
    ended = leashed(tmp_path / folder, command)
    assert ended.returncode == leash.EXIT_NOT_STARTED
    assert ended.stderr.startswith(f"'{command}' cannot be started: ")
    assert said in ended.stderr
