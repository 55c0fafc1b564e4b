"""Kills processes of a running project at seeded points, from outside: the product has no hook for it.

A kill names a victim (supervisor, shim, ingester, producer, worker, gate, endpoint, or the whole tree) and a moment: a delay after it
was first seen, or the instant at which a file shows that it is in the middle of something (a commit, a checkpoint, a promotion).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORK = {"ingester": ("visits", "sales"), "producer": ("produce",), "worker": ("fit",), "gate": ("amount",), "endpoint": ("amounts",)}
MOMENTS = {  # victim -> files below the state folder whose appearance tells that it is in the middle of something
    "ingester": ("lake/*/*.parquet", "lake/*/_delta_log/*"),
    "producer": ("log/*/*",),
    "worker": ("runs/fit-*/*/checkpoints/*", "runs/fit-*/*/out/model/*"),
    "gate": ("runs/amount-*/*/out/*",),
    "supervisor": ("runs/amount-*/*/out/evaluation.json", "runs/*/1/identity.json"),
}
VICTIMS = ("supervisor", "shim", "ingester", "producer", "worker", "gate", "endpoint", "tree")
STAGES = {"producer": 0.5, "ingester": 1.5, "worker": 2.5, "gate": 3.5, "endpoint": 4.5}
STEPS = {"produce": 0.5, "visits": 1.5, "sales": 1.5, "shop_sales": 2.2, "fit.inputs": 2.2, "fit": 2.5, "amount": 3.5, "amounts": 4.5}
LIMIT_S = 120.0


@dataclass(frozen=True)
class Kill:
    """One planned kill: the victim, the delay in seconds after it (or the file) is first seen, and whether a file is waited for.

    `stage` orders the kills of one project, so that each finds its victim still to come.
    """

    victim: str
    delay_s: float
    at_file: bool
    stage: float

    def __str__(self) -> str:
        return f"{self.victim}{' at a file' if self.at_file else ''} +{self.delay_s * 1000:.0f} ms"


def planned_kills(seed: int) -> list[Kill]:
    """The kills of one project: two for every victim, in the order in which their victims come."""
    source = random.Random(seed)
    kills = []
    for victim in (*VICTIMS, *VICTIMS):
        at_file = victim in MOMENTS and source.random() < 0.6
        delay_s = source.uniform(0, 0.02) if at_file else source.uniform(0, 0.15 if victim in ("producer", "ingester") else 0.4)
        kills.append(Kill(victim, delay_s, at_file, STAGES.get(victim, source.uniform(0, 4))))
    return sorted(kills, key=lambda kill: kill.stage)


def start_up(folder: Path) -> subprocess.Popen[bytes]:
    """`bedplate up` in a session of its own."""
    with (folder / "up.log").open("ab") as log:
        command = [sys.executable, "-m", "bedplate.cli.main", "up", "-C", str(folder)]
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)


def processes(state: Path) -> Iterator[tuple[int, str, str]]:
    """(pid, role, step) of all shims and workers of a project."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                if len(words) > 3 and words[2] in ("bedplate.flow.shim", "bedplate.flow.worker") and words[3].startswith(str(state)):
                    yield int(entry.name), words[2].rpartition(".")[2], Path(words[3]).parent.name.rpartition("-")[0]


def perform(kill: Kill, folder: Path, up: subprocess.Popen[bytes]) -> bool:
    """Wait for the kill's moment and kill; False when its victim had ended, or its stage was over, before that moment."""
    state = folder / ".bedplate"
    before = _files(state, kill)
    started_s = time.monotonic()
    while can_come(kill, folder, up) and time.monotonic() - started_s < LIMIT_S:
        ready = bool(_files(state, kill) - before) if kill.at_file else bool(_victims(kill, state, up))
        if ready:
            time.sleep(kill.delay_s)
            victims = _victims(kill, state, up)
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return bool(victims)
        if kill.victim in STAGES and any(STEPS.get(step, 0.0) > kill.stage for _, _, step in processes(state)):
            return False
        time.sleep(0.003)
    return False


def can_come(kill: Kill, folder: Path, up: subprocess.Popen[bytes]) -> bool:
    """Whether the victim may still be there: while `up` runs, and an endpoint after it."""
    return up.poll() is None or (kill.victim == "endpoint" and bool(_victims(kill, folder / ".bedplate", up)))


def _files(state: Path, kill: Kill) -> set[Path]:
    if not kill.at_file:
        return set()
    return {path for pattern in MOMENTS[kill.victim] for path in state.glob(pattern)}


def _victims(kill: Kill, state: Path, up: subprocess.Popen[bytes]) -> list[int]:
    alive = list(processes(state))
    if kill.victim == "supervisor":
        return [up.pid] if alive else []
    if kill.victim == "shim":
        return [pid for pid, role, _ in alive if role == "shim"][:1]
    if kill.victim == "tree":
        return [up.pid, *(pid for pid, _, _ in alive)] if alive else []
    return [pid for pid, role, step in alive if role == "worker" and step in WORK[kill.victim]][:1]


def finish(folder: Path, up: subprocess.Popen[bytes]) -> int:
    """Wait for `up` to end; returns its exit code."""
    return up.wait(timeout=LIMIT_S)
