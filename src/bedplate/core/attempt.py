"""An attempt: all that a worker is told, in one file in its own folder, and the identity by which its process is known.

An attempt writes below its own folder only, which carries its token: a zombie leaves orphans, never damage. Standard library only.
Does not know: who starts it (an engine) or who reads what it writes (the loop).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ATTEMPT_FILE = "attempt.json"
IDENTITY_FILE = "identity.json"


@dataclass(frozen=True)
class Attempt:
    """One attempt of a run.

    `token` is the fencing token, 1 for the first attempt. `folder`, `root`, `state` and `code` are absolute paths: of the attempt, the
    project, its state and the snapshot of its code. `spec` is the step's own, `inputs` maps names to versions (as JSON), `checkpoint`
    is the newest committed one. `argv` is run once per process, `processes` times, each with torchrun's environment; `shim_argv` runs
    the shim. `restart` keeps a service up. `excluded` names machines that an engine with several of them must not use. `lake` is the
    address of the project's lake, empty where it is in the state folder. `asks` is what all processes need
    together: `cpus`, `memory_bytes`.
    """

    run: str
    token: int
    step: str
    kind: str
    folder: str
    root: str
    state: str
    code: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Any]]
    argv: tuple[str, ...]
    shim_argv: tuple[str, ...]
    processes: int = 1
    world_size: int = 1
    accelerators: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    checkpoint: Mapping[str, Any] | None = None
    max_time_s: float | None = None
    restart: bool = False
    excluded: tuple[str, ...] = ()
    lake: str = ""
    asks: Mapping[str, float] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The attempt's folder."""
        return Path(self.folder)

    @property
    def out(self) -> Path:
        """Where outputs go."""
        return self.path / "out"

    def log(self, rank: int) -> Path:
        """The log file of a rank; the shim's own is `shim.log` beside it."""
        return self.path / "logs" / f"rank-{rank}.log"

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return asdict(self)


def read_attempt(folder: Path) -> Attempt:
    """The attempt whose file lies in `folder`."""
    values = json.loads((folder / ATTEMPT_FILE).read_text())
    for name in ("argv", "shim_argv", "accelerators", "excluded"):
        values[name] = tuple(values.get(name, ()))
    return Attempt(**values)


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for another: boot id, pid, start time in clock ticks since boot, and the attempt's token."""

    boot_id: str
    pid: int
    start_ticks: int
    token: int


def boot_id() -> str:
    """The kernel's id of this boot, or the empty string where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of proc(5) stat); None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def own_identity(token: int) -> Identity:
    """The identity of this process."""
    return Identity(boot_id(), os.getpid(), start_ticks(os.getpid()) or 0, token)


def is_alive(identity: Identity) -> bool:
    """Whether exactly that process still runs on this machine."""
    return identity.boot_id == boot_id() and start_ticks(identity.pid) == identity.start_ticks


def read_identity(folder: Path) -> Identity | None:
    """The identity that a shim left in an attempt's folder; None before it did."""
    try:
        return Identity(**json.loads((folder / IDENTITY_FILE).read_text()))
    except FileNotFoundError:
        return None
