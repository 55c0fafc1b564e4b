"""Imports torch once and forks a host of ranks for each line on its standard input, which names an attempt's folder.

Answers with the pid of the host; when the host ends, its exit code is in the attempt's folder, in the file `exit`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_bytes
from bedplate.core.attempt import Attempt, read_attempt
from bedplate.train.context import execute
from bedplate.train.ranks import run_ranks
from bedplate.train.seat import Seat
from train import parallels, samples
from train.checkpoints import meshes


def rank_main(attempt: Attempt, seat: Seat) -> Any:
    """What the flow does on a rank: find the function and the feed, and call it."""
    rank = seat.rank
    (attempt.path / f"pid-{rank}").write_text(str(os.getpid()))
    feed = samples.flights_feed()
    try:
        return execute(attempt, feed, seat, _function(attempt.spec.get("function", "train")))
    finally:
        write_bytes(attempt.path / f"seen-{rank}", repr(feed.seen).encode())


def _function(name: str) -> Any:
    return getattr(parallels, name, None) or getattr(meshes, name, None) or getattr(samples, name)


def host(folder: Path) -> None:
    """Run the attempt in `folder`."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = run_ranks(read_attempt(folder), rank_main)
    write_bytes(folder / "exit", str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            host(Path(line.strip()))
        print(pid, flush=True)
