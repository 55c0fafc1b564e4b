"""The local launcher: processes on this machine.

Identity is boot id, pid, start time and token, never a bare pid: a process number that was given to somebody else is left alone.
Does not know: what an attempt does, or why it is started or stopped.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from bedplate.cluster.shim import fenced
from bedplate.cluster.tree import MARK, Process, kill, members, send
from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, Identity, boot_id, is_alive, read_identity, start_ticks
from bedplate.core.protocols import Liveness, Rendered
from bedplate.core.settings import child_environment

START_LIMIT_S = 10.0
START_POLL_S = 0.002


class LocalLauncher:
    """Starts shims as sessions of their own. Another instance, in another process, can poll and cancel what this one started."""

    name = "local"

    def render(self, attempt: Attempt) -> Rendered:
        """What `submit` would start. Pure."""
        return Rendered(attempt.shim_argv, dict(attempt.environment), attempt.folder)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Start the attempt's shim, or find the one that a killed loop started; returns its identity and folder.

        Raises OSError when this machine can start no process.
        """
        (attempt.path / "logs").mkdir(parents=True, exist_ok=True)
        if not (attempt.path / ATTEMPT_FILE).exists():
            write_json(attempt.path / ATTEMPT_FILE, attempt.to_json())
        identity = read_identity(attempt.path) or _start(attempt)
        return {**asdict(identity), "folder": attempt.folder}

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """`gone` when the shim has ended and nothing that it started is left; leftovers are killed first, and it is `unknown` then.

        After `gone` no shim will run the attempt, also one that was started and has not yet begun.
        """
        identity = _identity(handle)
        if is_alive(identity):
            return "alive"
        if identity.boot_id != boot_id():
            return "gone"  # the machine was started again since
        folder = Path(handle["folder"])
        if folder.is_dir() and not fenced(folder, identity):
            return "alive"
        return "unknown" if kill(members(handle["folder"])) else "gone"

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """The lines that a rank printed so far, in order; none when it has not begun."""
        path = attempt.log(rank)
        if path.exists():
            with path.open(errors="replace") as file:
                yield from (line.rstrip("\n") for line in file)

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """Send the stop notice, or kill the whole tree. Harmless when it is gone, or when its process number is somebody else's now."""
        identity = _identity(handle)
        alive = is_alive(identity)
        shim = Process(identity.pid, identity.start_ticks)
        if how == "stop":
            if alive:
                send(shim, signal.SIGTERM)
            return
        tree = members(handle["folder"], [shim.pid] if alive else [])  # before the shim dies, while all descend from it
        if alive:
            send(shim, signal.SIGKILL)
        kill(tree)
        kill(members(handle["folder"]))  # what they started meanwhile


def _start(attempt: Attempt) -> Identity:
    """Start a shim and wait until one has made the attempt its own: this one, or one that a killed loop started just before."""
    with (attempt.path / "logs" / "shim.log").open("ab") as output:
        child = subprocess.Popen(
            attempt.shim_argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=child_environment({MARK: attempt.folder}),
        )
    started = Identity(boot_id(), child.pid, start_ticks(child.pid) or 0, attempt.token)
    threading.Thread(target=child.wait, name=f"reaper of {attempt.run}", daemon=True).start()  # so that no zombie stays
    limit_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit_s:
        identity = read_identity(attempt.path)
        if identity is not None:
            return identity
        if child.returncode is not None and fenced(attempt.path, started):
            return read_identity(attempt.path) or started
        time.sleep(START_POLL_S)
    return started


def _identity(handle: Mapping[str, Any]) -> Identity:
    """The identity that the shim itself left, or else the one that it was started with."""
    known = read_identity(Path(handle["folder"]))
    return known or Identity(handle["boot_id"], handle["pid"], handle["start_ticks"], handle["token"])
