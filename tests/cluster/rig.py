"""What the tests of the cluster room share: attempts of small scripts, their shims, and waiting for what a file or a process shows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, start_ticks
from bedplate.core.journal import Entry, JournalReader

SHIM = Path(__file__).with_name("shim_main.py")
LIMIT_S = 60.0
FOREVER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"


def attempt_in(folder: Path, script: str = "", *, shim: tuple[str, ...] = (), **changes: Any) -> Attempt:
    """An attempt that runs `python -c script` below `folder`; `shim` are further arguments of the tests' shim. Its file is written."""
    place = folder / "runs" / "fit-1" / str(changes.get("token", 1))
    (place / "logs").mkdir(parents=True)
    values: dict[str, Any] = {
        "argv": (sys.executable, "-c", script),
        "shim_argv": (sys.executable, str(SHIM), str(place), *shim),
        **changes,
    }
    names = {"run": "fit-1", "token": 1, "step": "fit", "kind": "job", "spec": {}, "inputs": {}}
    places = {"folder": str(place), "root": str(folder), "state": str(folder), "code": str(folder)}
    attempt = Attempt(**{**names, **places, **values})
    write_json(place / ATTEMPT_FILE, attempt.to_json())
    return attempt


def start_shim(attempt: Attempt) -> subprocess.Popen[bytes]:
    """The attempt's shim, in a session of its own."""
    with (attempt.path / "logs" / "shim.log").open("ab") as log:
        return subprocess.Popen(attempt.shim_argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def run_shim(attempt: Attempt) -> list[Entry]:
    """Run the attempt to its end; returns its journal."""
    assert start_shim(attempt).wait(LIMIT_S) == 0, (attempt.path / "logs" / "shim.log").read_text()
    return journal_of(attempt)


def journal_of(attempt: Attempt) -> list[Entry]:
    return JournalReader(attempt.path).read()


def ended(attempt: Attempt) -> dict[str, Any]:
    """The body of the one `ended` entry, which is the shim's last."""
    entries = [entry for entry in journal_of(attempt) if entry.writer == "shim"]
    assert [entry.kind for entry in entries].count("ended") == 1
    assert entries[-1].kind == "ended"
    return dict(entries[-1].body)


def printed(attempt: Attempt, rank: int = 0) -> list[str]:
    return attempt.log(rank).read_text().splitlines() if attempt.log(rank).exists() else []


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that must come; fails when it does not."""
    limit_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, "it did not come"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    return start_ticks(pid) is not None


def pids_in(path: Path) -> list[int]:
    """Process numbers that scripts wrote, one a line."""
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def session_of(pid: int) -> int:
    return os.getsid(pid)
