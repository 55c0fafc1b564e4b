"""What the tests of the command line share: its commands, called here or, as a shell does it, in a process of their own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.cli.main import main

HELLO = """
project: hello
jobs:
  hello: {function: hello.py:hello, params: {name: world, seconds: 0}, max_restarts: 2}
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


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def bedplate(folder: Path, *words: str) -> Said:
    """One command in a project's folder, called in this process."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return Said(code, out.getvalue(), err.getvalue())


def as_json(folder: Path, *words: str) -> Any:
    """What a command prints with --json; it must succeed."""
    done = bedplate(folder, *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def refused(folder: Path, *words: str) -> str:
    """What a command says that fails: one line on standard error, and nothing on standard output."""
    done = bedplate(folder, *words)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def command(*words: str) -> list[str]:
    """What a shell would start."""
    return [sys.executable, "-m", "bedplate.cli.main", *words]


def apart(folder: Path, *words: str) -> Said:
    """One command in a project's folder, in a process of its own."""
    done = subprocess.run(command(*words), cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """One command in the background, in a process group of its own, as a shell starts it; its output is one stream."""
    return subprocess.Popen(command(*words), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    os.kill(process.pid, signal.SIGINT)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and the output of a command in the background, once it has ended."""
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def wait_until(true: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Return when it is true; fail after a limit that is only there to end a hung test."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, "it did not become true"
        time.sleep(0.05)


def is_running(folder: Path, run: str = "hello-1") -> bool:
    """Whether a run has begun and printed its first line."""
    known = (folder / ".bedplate" / "ledger.db").exists() and {each["id"]: each["status"] for each in as_json(folder, "ps")}
    return bool(known) and known.get(run) == "running" and bedplate(folder, "logs", run).stdout != ""


def write_hello(folder: Path) -> Path:
    """A project with one job that runs in a second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bedplate.yaml").write_text(HELLO)
    (folder / "hello.py").write_text(HELLO_CODE)
    return folder


def processes_of(folder: Path, module: str = "bedplate.") -> list[int]:
    """Live processes whose command line names `module`, and the folder, or which run in it as a server."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
                here = (entry / "cwd").readlink() == folder
            except OSError:
                continue
            if module in words and (f"{folder}/" in words or here):
                found.append(int(entry.name))
    return found
