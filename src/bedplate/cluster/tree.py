"""The processes of an attempt: which ones belong to it, and signals that cannot hit another process with the same number.

A process belongs to an attempt when it carries the attempt's folder in its environment (`BEDPLATE_ATTEMPT`), or prints to a log in that
folder (some programs overwrite their environment with a title), or descends from one that does. Linux only: it reads proc(5).
Does not know: who asks, or what the processes do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.attempt import start_ticks

MARK = "BEDPLATE_ATTEMPT"
PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process that runs: its number, and its start in clock ticks since boot, by which it is told from a later one of that number."""

    pid: int
    start_ticks: int


def members(folder: str, roots: Iterable[int] = ()) -> set[Process]:
    """What runs now of the attempt in `folder`, with all descendants of it and of the processes `roots`.

    The roots themselves are left out, and so are the caller and what has ended. Nothing is signalled.
    """
    running, children = _running()
    found = {pid for pid in running if pid != os.getpid() and _carries(pid, folder)}
    new = found | set(roots)
    while new:
        new = {child for pid in new for child in children.get(pid, ())} - found
        found |= new
    return {Process(pid, running[pid]) for pid in found - set(roots) - {os.getpid()}}


def send(process: Process, number: int) -> bool:
    """Send a signal to exactly that process; whether it was there and could be signalled."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if start_ticks(process.pid) != process.start_ticks:
            return False
        signal.pidfd_send_signal(descriptor, number)  # type: ignore[attr-defined, unused-ignore] # Linux only
    except (ProcessLookupError, PermissionError):  # it ended just now, or made itself another user's
        return False
    finally:
        os.close(descriptor)
    return True


def kill(processes: Iterable[Process]) -> set[Process]:
    """Kill these; returns those that were there."""
    return {process for process in processes if send(process, signal.SIGKILL)}


def _running() -> tuple[dict[int, int], dict[int, set[int]]]:
    starts: dict[int, int] = {}
    children: dict[int, set[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                state, parent, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
                if state not in "ZX":
                    starts[int(entry.name)] = int(rest[17])  # field 22
                    children.setdefault(int(parent), set()).add(int(entry.name))
    return starts, children


def _carries(pid: int, folder: str) -> bool:
    of = PROC / str(pid)
    with suppress(OSError):  # another user's, or gone
        if f"{MARK}={folder}".encode() in (of / "environ").read_bytes().split(b"\0"):
            return True
    for output in ("fd/1", "fd/2"):
        with suppress(OSError):
            if (of / output).readlink().is_relative_to(Path(folder).resolve() / "logs"):
                return True
    return False
