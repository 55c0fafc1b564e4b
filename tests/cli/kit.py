"""What the tests of the command line share: running it as a person does, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HELLO = """
project: hello
jobs:
  hello: {function: hello.py:hello, params: {name: world, seconds: 0}}
"""

HELLO_CODE = """
import time


def hello(run, name="world", seconds=0):
    print(f"hello {name}", flush=True)
    for tick in range(int(seconds * 20)):
        run.progress(tick, int(seconds * 20), "ticks")
        time.sleep(0.05)
    run.log(letters=len(name))
"""


def bedplate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One command in a project's folder."""
    command = [sys.executable, "-m", "bedplate.cli.main", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """One command in the background, in a process group of its own, as a shell starts it."""
    command = [sys.executable, "-m", "bedplate.cli.main", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    os.kill(process.pid, signal.SIGINT)


def as_json(folder: Path, *words: str) -> Any:
    """What a command prints with --json; it must succeed."""
    done = bedplate(folder, *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def wait_until(true: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Return when it is true; fail after a limit that is only there to end a hung test."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, "it did not become true"
        time.sleep(0.05)


def write_hello(folder: Path) -> Path:
    """A project with one job that runs in a second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bedplate.yaml").write_text(HELLO)
    (folder / "hello.py").write_text(HELLO_CODE)
    return folder


def processes_of(folder: Path) -> list[str]:
    """The command lines of live processes that name the folder, or run in it as a server."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
                here = (entry / "cwd").readlink() == folder
            except OSError:
                continue
            if "bedplate." in words and (str(folder) in words or here):
                found.append(words)
    return found
