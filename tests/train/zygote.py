"""Imports torch once and forks a host of ranks for each line on its standard input, which names an attempt's folder.

Answers with the pid of the host; when the host ends, its exit code is in the attempt's folder, in the file `exit`.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
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
    """Run the attempt in `folder`. With `room` in its spec, there is none for more processes than that (a real limit binds no root)."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    attempt = read_attempt(folder)
    if "room" in attempt.spec:
        os.fork = _limited(os.fork, attempt.spec["room"])
    code = run_ranks(attempt, rank_main)
    write_bytes(folder / "exit", str(code).encode())
    os._exit(0)


def _limited(fork: Callable[[], int], room: int) -> Callable[[], int]:
    """`fork` on a machine that has room for `room` ranks of this process beside the store, once it has had four."""
    begun = 0

    def limited() -> int:
        nonlocal begun
        begun += 1
        if begun > 5 and len(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()) > room:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    return limited


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            host(Path(line.strip()))
        print(pid, flush=True)
