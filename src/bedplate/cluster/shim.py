"""The shim: a small process that watches one attempt and writes down what becomes of it.

It has a session of its own, so it outlives the loop that started it. Children write their output straight to files and die with it
(PR_SET_PDEATHSIG of prctl(2)); whatever they start carries `BEDPLATE_ATTEMPT` in its environment and is swept by it. A lock in the
attempt's folder, held for life, lets one shim run an attempt, once. Standard library only: it must start fast.
Does not know: the ledger, what the attempt computes, or whether it is worth trying again.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bedplate.core.atomic import write_json
from bedplate.core.attempt import IDENTITY_FILE, Attempt, own_identity
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.core.settings import child_environment

MARK = "BEDPLATE_ATTEMPT"
LOCK_FILE = "shim.lock"
HEARTBEAT_S = 2.0
POLL_S = 0.02
GRACE_S = 30.0
PEER_GRACE_S = 3.0
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
PR_SET_PDEATHSIG = 1
EXIT_LOST, EXIT_STOPPED = 70, 75  # as `train.failures` has them, from sysexits.h
LOG_TAIL_LINES = 5

Serve = Callable[[Attempt, JournalWriter], AbstractContextManager[Mapping[str, str]]]


@dataclass
class _Children:
    """The processes of an attempt and how they ended, in the order in which they did."""

    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended: list[tuple[int, int]] = field(default_factory=list)


def supervise(attempt: Attempt, journal: JournalWriter, serve: Serve, grace_s: float = GRACE_S) -> int:
    """Run the attempt to its end and journal it; returns 0. A second shim of the same attempt returns 0 and touches nothing.

    `serve` is entered around the children and yields environment for them. SIGTERM is the stop notice: it is passed on, and `grace_s`
    later whatever still runs is killed.
    """
    with _only_shim(attempt.path) as first:
        if not first or (attempt.path / IDENTITY_FILE).exists():
            return 0
        notice = _Notice()
        identity = own_identity(attempt.token)
        write_json(attempt.path / IDENTITY_FILE, asdict(identity))
        journal.write("started", identity=asdict(identity))
        with serve(attempt, journal) as environment:
            watch = _Watch(attempt, journal, environment, notice, grace_s)
            watch.run()
        journal.write("ended", **watch.verdict())
        journal.sync()
    return 0


@contextmanager
def _only_shim(folder: Path) -> Iterator[bool]:
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


class _Notice:
    """Whether the stop notice came."""

    def __init__(self) -> None:
        self.given = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the foreground command's
        signal.signal(signal.SIGTERM, self._take)

    def _take(self, _signal: int, _frame: object) -> None:
        self.given = True


class _Watch:
    """One life of an attempt's children."""

    def __init__(self, attempt: Attempt, journal: JournalWriter, environment: Mapping[str, str], notice: _Notice, grace_s: float) -> None:
        self._attempt = attempt
        self._journal = journal
        self._environment = environment
        self._notice = notice
        self._grace_s = grace_s
        self._children = _Children()
        self._port = _free_port()
        self._started_s = time.monotonic()
        self._beaten_s = self._started_s
        self._kill_at_s: float | None = None
        self._told = False
        self._timed_out = False
        self._deaths = 0

    def run(self) -> None:
        """Start the children and wait until none is left."""
        for rank in range(self._attempt.processes):
            self._start(rank)
        while self._children.running:
            self._reap()
            self._mind_time()
            time.sleep(POLL_S)
        sweep(self._attempt.folder)

    def verdict(self) -> dict[str, str | None]:
        """The `ended` entry: status, failure class, message."""
        codes = dict(self._children.ended)
        if self._timed_out:
            return _ended("failed", "timeout", f"it took longer than max_time, {self._attempt.max_time_s:g} s")
        if self._attempt.restart:
            return _ended("stopped")
        if all(code == 0 for code in codes.values()):
            return _ended("succeeded")
        if self._told or EXIT_STOPPED in codes.values():
            return _ended("stopped")
        rank, code = next((rank, code) for rank, code in self._children.ended if code != 0)
        said = next((entry.body for entry in JournalReader(self._attempt.path).read() if entry.kind == "failure"), None)
        if code < 0 or code > 128 or code == EXIT_LOST:
            number = -code if code < 0 else code - 128
            ended = f"rank {rank} was killed by {_signal_name(number)}" if code != EXIT_LOST else f"rank {rank} was lost"
            return _ended("failed", "worker_lost", str(said["message"]) if said and code == EXIT_LOST else ended)
        message = str(said["message"]) if said else f"exit code {code}: {_tail(self._attempt.log(rank))}"
        return _ended("failed", str(said["failure"]) if said else "user_error", message)

    def _start(self, rank: int) -> None:
        log = self._attempt.log(rank)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._children.running[rank] = subprocess.Popen(
                self._attempt.argv,
                cwd=self._attempt.root,
                env=child_environment({**self._attempt.environment, **self._ranks(rank), **self._environment, MARK: self._attempt.folder}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=_die_with_parent,
            )

    def _ranks(self, rank: int) -> dict[str, str]:
        size = str(self._attempt.processes)
        store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._port)}
        return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "PYTHONUNBUFFERED": "1", **store}

    def _reap(self) -> None:
        for rank, child in list(self._children.running.items()):
            code = child.poll()
            if code is None:
                continue
            del self._children.running[rank]
            self._journal.write("process", rank=rank, code=code)
            if self._attempt.restart and not self._told:
                time.sleep(BACK_OFF_S[min(self._deaths, len(BACK_OFF_S) - 1)])
                self._deaths += 1
                self._start(rank)
                continue
            self._children.ended.append((rank, code))
            if code != 0 and self._kill_at_s is None:
                self._kill_at_s = time.monotonic() + PEER_GRACE_S  # its peers will notice, or are stuck

    def _mind_time(self) -> None:
        now_s = time.monotonic()
        if now_s - self._beaten_s > HEARTBEAT_S:
            self._beaten_s = now_s
            self._journal.write("heartbeat")
        limit_s = self._attempt.max_time_s
        if limit_s is not None and not self._timed_out and now_s - self._started_s > limit_s:
            self._timed_out = True
            self._notice.given = True
        if self._notice.given and not self._told:
            self._told = True
            self._kill_at_s = now_s + self._grace_s
            for child in self._children.running.values():
                child.send_signal(signal.SIGTERM)
        if self._kill_at_s is not None and now_s > self._kill_at_s:
            for child in self._children.running.values():
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)


def sweep(folder: str) -> list[int]:
    """Kill every process that carries the mark of the attempt in `folder`; returns their ids."""
    found = []
    wanted = f"{MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    found.append(int(entry.name))
    return found


def _die_with_parent(prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _ended(status: str, failure: str | None = None, message: str = "") -> dict[str, str | None]:
    return {"status": status, "failure": failure, "message": message}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " | ".join(line.strip() for line in lines[-LOG_TAIL_LINES:]) or "it printed nothing"
