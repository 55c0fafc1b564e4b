"""The local launcher: processes on this machine.

Identity is boot id, pid, start time and token, never a bare pid: a process number that was given to somebody else is left alone.
Does not know: what an attempt does, or why it is started or stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from bedplate.cluster.shim import sweep
from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, Identity, boot_id, is_alive, read_identity, start_ticks
from bedplate.core.protocols import Liveness, Rendered
from bedplate.core.settings import child_environment

START_LIMIT_S = 10.0
START_POLL_S = 0.002


class LocalLauncher:
    """Starts shims as sessions of their own. Another instance, in another process, can poll and cancel what this one started."""

    name = "local"

    def __init__(self) -> None:
        """Nothing is started."""
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def render(self, attempt: Attempt) -> Rendered:
        """What `submit` would start. Pure."""
        return Rendered(attempt.shim_argv, dict(attempt.environment), attempt.folder)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Start the attempt's shim, or find the one that a killed loop started; returns its identity and folder."""
        (attempt.path / "logs").mkdir(parents=True, exist_ok=True)
        if not (attempt.path / ATTEMPT_FILE).exists():
            write_json(attempt.path / ATTEMPT_FILE, attempt.to_json())
        identity = read_identity(attempt.path) or self._start(attempt)
        return {**asdict(identity), "folder": attempt.folder}

    def _start(self, attempt: Attempt) -> Identity:
        with (attempt.path / "logs" / "shim.log").open("ab") as output:
            child = subprocess.Popen(
                attempt.shim_argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=child_environment({}),
            )
        self._children[attempt.folder] = child
        started = Identity(boot_id(), child.pid, start_ticks(child.pid) or 0, attempt.token)
        limit_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit_s and child.poll() is None:
            identity = read_identity(attempt.path)
            if identity is not None:
                return identity
            time.sleep(START_POLL_S)
        return read_identity(attempt.path) or started

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """`gone` when the shim has ended and nothing that it started is left; leftovers are killed first."""
        child = self._children.get(handle["folder"])
        if child is not None:
            child.poll()  # takes the exit status, so that no zombie stays
        if is_alive(_identity(handle)):
            return "alive"
        if handle["boot_id"] != boot_id():
            return "gone"  # the machine was started again since
        return "unknown" if sweep(handle["folder"]) else "gone"

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """The lines that a rank printed so far, in order."""
        path: Path = attempt.log(rank)
        if path.exists():
            yield from path.read_text(errors="replace").splitlines()

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """Send the stop notice, or kill the whole tree. Harmless when it is gone, or when its process number is somebody else's now."""
        identity = _identity(handle)
        if is_alive(identity):
            with suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGTERM if how == "stop" else signal.SIGKILL)
        if how == "cancel":
            sweep(handle["folder"])


def _identity(handle: Mapping[str, Any]) -> Identity:
    return Identity(handle["boot_id"], handle["pid"], handle["start_ticks"], handle["token"])
