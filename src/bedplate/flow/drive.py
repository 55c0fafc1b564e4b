"""Driving a launch to its end: host the loop, or watch the process that does; take over when that process dies.

Does not know: how progress is shown (a callback is told) or what Ctrl-C means (the command line asks for a stop).
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bedplate.core.errors import BedplateError
from bedplate.core.plan import Plan
from bedplate.core.record import LaunchRecord
from bedplate.core.settings import child_environment
from bedplate.flow.loop import LEASE, Loop, holder_is_dead, hosted
from bedplate.flow.watch import Progress, Watch
from bedplate.flow.workspace import Workspace

TICK_S = 0.03
TAKE_OVER_S = 1.0

Observer = Callable[[LaunchRecord, Plan | None, list[Progress]], None]


def drive(workspace: Workspace, launch: str, observer: Observer) -> LaunchRecord:
    """Drive `launch` until it ended and return its record. `observer` is called at every tick."""
    watch = Watch(workspace)
    with _driven(workspace) as tick:
        while True:
            loop = tick()
            record = workspace.refresh().launches[launch]
            observer(record, loop.plan_of(record) if loop else None, watch.progress(launch))
            if record.status != "open":
                return record
            workspace.clock.sleep(TICK_S)


def settle(workspace: Workspace, runs: list[str], observer: Callable[[list[Progress]], None]) -> None:
    """Drive until all of `runs` have ended."""
    watch = Watch(workspace)
    with _driven(workspace) as tick:
        while True:
            tick()
            records = workspace.refresh()
            if all(records.runs[run].ended for run in runs):
                return
            observer(watch.progress())
            workspace.clock.sleep(TICK_S)


@contextmanager
def _driven(workspace: Workspace) -> Iterator[Callable[[], Loop | None]]:
    """What ticks the loop if this process hosts it, and tries to take it over when the process that hosts it may have died."""
    with ExitStack() as stack:
        loop: Loop | None = stack.enter_context(hosted(workspace))
        tried_at_s = workspace.clock.now()

        def tick() -> Loop | None:
            nonlocal loop, tried_at_s
            if loop is None and workspace.clock.now() - tried_at_s > TAKE_OVER_S:
                loop = stack.enter_context(hosted(workspace))
                tried_at_s = workspace.clock.now()
            if loop is not None:
                loop.tick()
            return loop

        yield tick


def serve_loop(workspace: Workspace, wanted: Callable[[], bool], begun: Callable[[], None] = lambda: None) -> None:
    """Host the loop while `wanted()` says so; `begun` is told once that it is hosted.

    Raises BedplateError when another live process hosts it.
    """
    with hosted(workspace) as loop:
        if loop is None:
            lease = workspace.ledger.lease(LEASE)
            raise BedplateError(
                "another process hosts the loop of this project",
                value=lease.holder if lease else None,
                fix="stop it first: `bedplate down`",
            )
        begun()
        while wanted():
            loop.tick()
            workspace.clock.sleep(TICK_S * 3)


def is_hosted(workspace: Workspace) -> bool:
    """Whether a live process hosts the loop of this project."""
    lease = workspace.ledger.lease(LEASE)
    return lease is not None and lease.expires_at_s > workspace.clock.now() and not holder_is_dead(lease)


def start_server(workspace: Workspace) -> int:
    """Start `bedplate server` for this project in a session of its own; returns its process id."""
    log = workspace.state / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bedplate.cli.main", "server"],
            cwd=workspace.project.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=child_environment({"BEDPLATE_STATE": str(Path(workspace.state))}),
        )
    threading.Thread(target=process.wait, name="reaper of the server", daemon=True).start()  # so that no zombie stays
    return process.pid
