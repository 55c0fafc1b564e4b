"""The shim: a small process that watches one attempt and writes down what becomes of it.

It has a session of its own, so it outlives the loop that started it. Children write their output straight to files and die with it (see
`leash`); what they leave behind falls to it (PR_SET_CHILD_SUBREAPER of prctl(2)) and is ended before the attempt is. A lock in the
attempt's folder, held for life, and the identity written under it, let one shim run an attempt, once. Standard library only: it must
start fast.
Does not know: the ledger, what the attempt computes, or whether it is worth trying again.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedplate.cluster import leash
from bedplate.cluster.tree import MARK, Process, kill, members, send
from bedplate.core.atomic import write_json
from bedplate.core.attempt import IDENTITY_FILE, Attempt, Identity, own_identity, read_identity
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.core.settings import child_environment

LOCK_FILE = "shim.lock"
HEARTBEAT_S = 2.0
GRACE_S = 30.0  # from a stop notice to a kill
PEER_GRACE_S = 3.0  # from the first rank that failed to a kill of the others
LEFTOVER_POLL_S = 0.05
BACK_OFF_S = (0.2, 5.0)  # before a service is started again: doubled from the one to the other
STEADY_S = 60.0  # a service that ran as long begins with the shortest back-off again
PR_SET_CHILD_SUBREAPER = 36
EXIT_LOST, EXIT_STOPPED = 70, 75  # EX_SOFTWARE and EX_TEMPFAIL of sysexits.h
TAIL_LINES, TAIL_BYTES = 5, 4096

Serve = Callable[[Attempt, JournalWriter], AbstractContextManager[Mapping[str, str]]]


def supervise(attempt: Attempt, journal: JournalWriter, serve: Serve | None = None, grace_s: float = GRACE_S) -> int:
    """Run the attempt to its end and journal it; returns 0. A second shim of the same attempt returns 0 and touches nothing.

    `serve` is entered around the children and yields environment for them. SIGTERM is the stop notice: it is passed on, and `grace_s`
    later whatever still runs is killed. Call it from the main thread: it takes over SIGTERM, SIGINT and SIGCHLD.
    """
    with claimed(attempt.path) as mine:
        if not mine or read_identity(attempt.path) is not None:
            return 0
        signals = _Signals()
        identity = own_identity(attempt.token)
        write_json(attempt.path / IDENTITY_FILE, asdict(identity))
        journal.write("started", identity=asdict(identity))
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            with nullcontext({}) if serve is None else serve(attempt, journal) as environment:
                watch = _Watch(attempt, journal, environment, signals, grace_s)
                watch.run()
            journal.write("ended", **watch.verdict())
        except Exception as error:
            kill(members(attempt.folder, [os.getpid()]))
            journal.write("ended", **_ended("failed", "worker_lost", f"its shim failed: {type(error).__name__}: {error}"))
            raise
        finally:
            journal.sync()
    return 0


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold the right to run the attempt in `folder`, if nobody else does; yields whether that is so. The kernel frees it at death."""
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


def fenced(folder: Path, identity: Identity) -> bool:
    """Whether no shim runs the attempt in `folder`; from then on none ever will.

    Where no shim has left its identity, `identity`, that of a dead one, is put there: a shim that is late finds it and ends.
    """
    with claimed(folder) as mine:
        if mine and read_identity(folder) is None:
            write_json(folder / IDENTITY_FILE, asdict(identity))
        return mine


class _Signals:
    """Signals as things to wait for: the stop notice (SIGTERM) and children that ended. SIGINT is the foreground command's, not ours.

    Handlers, also where nothing is done: unlike SIG_IGN, they are not handed down to children.
    """

    def __init__(self) -> None:
        self.stop = False
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._take)
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGCHLD, self._take)

    def _take(self, number: int, _frame: object) -> None:
        self.stop = self.stop or number == signal.SIGTERM

    def wait(self, limit_s: float) -> None:
        """Return at the next signal, or after `limit_s` seconds."""
        select.select([self._reader], [], [], max(0.0, limit_s))
        with suppress(BlockingIOError):
            os.read(self._reader, 4096)


class _Watch:
    """One life of an attempt's children."""

    def __init__(self, attempt: Attempt, journal: JournalWriter, environment: Mapping[str, str], signals: _Signals, grace_s: float) -> None:
        self._attempt = attempt
        self._journal = journal
        self._environment = environment
        self._signals = signals
        self._grace_s = grace_s
        self._store, self._coordinator = _reserved_port(), _reserved_port()
        self._running: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}  # by process number: rank and child
        self._ended: list[tuple[int, int]] = []  # rank and code, in the order of their ends
        self._due: dict[int, float] = {}  # ranks to be started again, and when
        self._begun_s: dict[int, float] = {}
        self._back_off_s = BACK_OFF_S[0]
        self._beat_s = time.monotonic() + HEARTBEAT_S
        self._limit_s = time.monotonic() + attempt.max_time_s if attempt.max_time_s is not None else float("inf")
        self._kill_s = float("inf")
        self._told = False
        self._told_leftovers: set[Process] = set()
        self._timed_out = False
        self._begun_at_s = time.time()
        named = attempt.spec.get("preemption_notice")
        self._notice = Path(attempt.root, named) if named else None

    def run(self) -> None:
        """Start the children and wait until nothing that came of them is left."""
        for rank in range(self._attempt.processes):
            self._start(rank)
        while self._running or self._due or self._leftovers():
            self._signals.wait(self._pause_s())
            self._reap()
            self._mind_time()
            for rank in [rank for rank, at_s in self._due.items() if at_s <= time.monotonic()]:
                del self._due[rank]
                self._start(rank)

    def verdict(self) -> dict[str, Any]:
        """The `ended` entry: status, failure class, message."""
        if self._timed_out:
            return _ended("failed", "timeout", f"it took longer than max_time, {self._attempt.max_time_s:g} s")
        if self._told or self._attempt.restart:
            return _ended("stopped")
        failed = next((end for end in self._ended if end[1] != 0), None)
        return _ended("succeeded") if failed is None else _failure(self._attempt, *failed)

    def _start(self, rank: int) -> None:
        log = self._attempt.log(rank)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), self._attempt.root, *self._attempt.argv],
                env=child_environment(self._additions(rank)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        self._running[child.pid] = rank, child
        self._begun_s[rank] = time.monotonic()

    def _additions(self, rank: int) -> dict[str, str]:
        """What a rank's environment has beyond the shim's: torchrun's variables, so that its users find what they look for."""
        ranks = dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), str(rank))
        sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), str(self._attempt.processes))
        group = {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "ROLE_NAME": "default"}
        elastic = {"TORCHELASTIC_RUN_ID": self._attempt.run, "TORCHELASTIC_RESTART_COUNT": str(self._attempt.token - 1)}
        store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.getsockname()[1])}
        torchrun = {**ranks, **sizes, **group, **elastic, **store, **self._jax(rank)}
        return {"PYTHONUNBUFFERED": "1", **self._attempt.environment, **torchrun, **self._environment, MARK: self._attempt.folder}

    def _jax(self, rank: int) -> dict[str, str]:
        """What `jax.distributed.initialize` reads itself (the addresses), and what it is to be told: on a port that torch does not use."""
        address = f"127.0.0.1:{self._coordinator.getsockname()[1]}"
        count = {"JAX_NUM_PROCESSES": str(self._attempt.processes), "JAX_PROCESS_ID": str(rank)}
        return {"JAX_COORDINATOR_ADDRESS": address, "JAX_COORDINATOR_BIND_ADDRESS": address, **count}

    def _pause_s(self) -> float:
        """How long nothing needs to be done, unless a signal comes."""
        limit_s = self._limit_s if not self._told else float("inf")
        kill_s = max(self._kill_s, time.monotonic() + LEFTOVER_POLL_S)  # a kill is repeated until it has worked
        next_s = min(self._beat_s, limit_s, kill_s, *self._due.values())
        return (next_s if self._running or self._due else time.monotonic() + LEFTOVER_POLL_S) - time.monotonic()

    def _reap(self) -> None:
        """Take what ended: children, and orphans of theirs that fell to this process."""
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid in self._running:
                    rank, child = self._running.pop(ended.si_pid)
                    self._take(rank, child.wait())
                else:
                    os.waitpid(ended.si_pid, 0)

    def _take(self, rank: int, code: int) -> None:
        self._journal.write("process", rank=rank, code=code, signal=_signal_name(code))
        if self._attempt.restart and not self._told and not self._signals.stop:
            self._start_again(rank)
            return
        self._ended.append((rank, code))
        if code != 0 and not self._told:
            self._kill_s = min(self._kill_s, time.monotonic() + PEER_GRACE_S)  # its peers will notice, or are stuck

    def _start_again(self, rank: int) -> None:
        now_s = time.monotonic()
        if now_s - self._begun_s[rank] > STEADY_S:
            self._back_off_s = BACK_OFF_S[0]
        self._due[rank] = now_s + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S[1])
        if not self._running:
            kill(members(self._attempt.folder, [os.getpid()]))  # what the dead one left could hold its port

    def _mind_time(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._beat_s:
            self._beat_s = now_s + HEARTBEAT_S
            self._journal.write("heartbeat")
        if self._preempted() and not self._told:
            self._signals.stop = True
        if now_s >= self._limit_s and not self._told and (self._running or self._due):
            self._timed_out = self._signals.stop = True
        if self._signals.stop and not self._told and (self._running or self._due):
            self._told = True
            self._due.clear()
            self._kill_s = min(self._kill_s, now_s + self._grace_s)
            for pid in self._running:  # not by Popen, which would take the exit status of one that has just ended
                os.kill(pid, signal.SIGTERM)
        if now_s >= self._kill_s:
            for pid in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    def _preempted(self) -> bool:
        """Whether the file in which a cloud tells of the end of this machine was written since the attempt began."""
        return self._notice is not None and self._notice.exists() and self._notice.stat().st_mtime >= self._begun_at_s

    def _leftovers(self) -> bool:
        """Whether anything outlived the children. After a stop notice it is told as well: its parent may have been a mere shell."""
        left = members(self._attempt.folder, [os.getpid()])
        if self._told and time.monotonic() < self._kill_s:
            for process in left - self._told_leftovers:
                send(process, signal.SIGTERM)
            self._told_leftovers |= left
            return bool(left)
        return bool(kill(left))


def _failure(attempt: Attempt, rank: int, code: int) -> dict[str, Any]:
    """What it means that `rank` was the first to end badly."""
    if code == EXIT_STOPPED:
        return _ended("stopped")
    number = _signal_name(code)
    if number is not None:
        return _ended("failed", "worker_lost", f"rank {rank} was killed by {number}")
    said = [entry.body for entry in JournalReader(attempt.path).read() if entry.kind == "failure"]
    said.sort(key=lambda body: (body["failure"] == "worker_lost", body.get("rank") != rank))  # a loss may be the echo of another's failure
    if said:
        crash = {name: said[0][name] for name in ("signal", "step", "node") if said[0].get(name) is not None}
        return {**_ended("failed", str(said[0]["failure"]), str(said[0]["message"])), **crash}
    if code == EXIT_LOST:
        return _ended("failed", "worker_lost", f"rank {rank} was lost")
    return _ended("failed", "user_error", f"rank {rank} ended with exit code {code}: {_tail(attempt.log(rank))}")


def _ended(status: str, failure: str | None = None, message: str = "") -> dict[str, Any]:
    return {"status": status, "failure": failure, "message": message}


def _signal_name(code: int) -> str | None:
    """The signal that ended a process with this code; a shell tells of its child's as 128 + number."""
    number = -code if code < 0 else code - 128
    if number not in signal.valid_signals():
        return None
    return signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"


def _reserved_port() -> socket.socket:
    """A socket that keeps its port from being given to anybody else, and lets rank 0 listen there.

    Linux lets a socket with SO_REUSEADDR, as PyTorch's store is, share the port of another such while that does not listen (socket(7)).
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _tail(log: Path) -> str:
    """The last lines of a log, in one."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip()) or "it printed nothing"
