"""The host of an attempt's ranks: imports torch once, forks a process for each rank, and says how they ended.

Torch and what a first step would import are loaded here, so ranks start with all of it. The host itself computes nothing: no gloo, no
backward, no accelerator, whose threads and handles do not survive a fork. It holds the store at which ranks meet, and dies last.
torchrun's environment is written here. Does not know: what a rank does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch._dynamo
from torch.distributed import TCPStore  # type: ignore[attr-defined] # torch re-exports it untyped

from bedplate.core.attempt import Attempt
from bedplate.core.journal import JournalWriter
from bedplate.train.failures import EXIT_DONE, EXIT_LOST, EXIT_STOPPED, EXIT_USER_ERROR, describe
from bedplate.train.notice import Stopped

LOOPBACK = "127.0.0.1"
GRACE_S = 1.0
POLL_S = 0.02
PR_SET_PDEATHSIG = 1  # prctl(2)

RankMain = Callable[[Attempt, int], Any]


@dataclass(frozen=True)
class End:
    """How a rank ended: exit code (negative: the signal), when it was seen, what it said, whether the host itself killed it."""

    rank: int
    code: int
    at_s: float
    failure: dict[str, Any] | None
    by_host: bool


@dataclass
class _Rank:
    number: int
    report: int  # the reading end of the pipe through which it says why it fails
    killed: bool = False


def run_ranks(attempt: Attempt, rank_main: RankMain) -> int:
    """Run `rank_main(attempt, rank)` in `world_size` forked processes and return the exit code of the attempt (see `failures`).

    The journal gets `process` {rank, code} for each, and one `failure` {failure, message, rank, traceback}: of the rank that failed first,
    not of those that only felt its absence.
    """
    journal = JournalWriter(attempt.path, "host")
    host = _Host(attempt, rank_main)
    ends = host.run(lambda end: journal.write("process", rank=end.rank, code=end.code))
    code, failure = verdict(ends, host.stopping)
    if failure is not None:
        journal.write("failure", **failure)
    journal.close()
    return code


def verdict(ends: list[End], stopping: bool) -> tuple[int, dict[str, Any] | None]:
    """The exit code of an attempt whose ranks ended so, and the failure to tell.

    A user's error counts before a loss that came after it; that a rank lost touch with others is an error of its own only when no other
    explains it.
    """
    if all(end.code == EXIT_DONE for end in ends):
        return EXIT_DONE, None
    told = sorted((end.failure for end in ends if end.failure), key=lambda failure: float(failure["at_s"]))
    users = [failure for failure in told if failure["failure"] == "user_error"]
    expected = {EXIT_DONE, EXIT_STOPPED, *((-signal.SIGTERM,) if stopping else ())}
    lost = [end for end in ends if end.failure is None and not end.by_host and end.code not in expected]
    if users and not (lost and lost[0].at_s < users[0]["at_s"]):
        return EXIT_USER_ERROR, users[0]
    if lost:
        message = f"rank {lost[0].rank} {_ending(lost[0].code)}"
        return EXIT_LOST, {"failure": "worker_lost", "message": message, "rank": lost[0].rank, "traceback": "", "at_s": lost[0].at_s}
    if stopping or any(end.code == EXIT_STOPPED for end in ends):
        return EXIT_STOPPED, None
    return EXIT_LOST, told[0] if told else None


class _Host:
    """Forks the ranks, passes the stop notice on, and waits."""

    def __init__(self, attempt: Attempt, rank_main: RankMain) -> None:
        self._attempt = attempt
        self._rank_main = rank_main
        self._running: dict[int, _Rank] = {}
        self.stopping = False

    def run(self, tell: Callable[[End], None]) -> list[End]:
        """Run all ranks to their ends, in the order in which they ended. `tell` hears of each."""
        previous = signal.signal(signal.SIGTERM, self._forward)
        with socket.create_server((LOOPBACK, 0), backlog=self._attempt.world_size + 16) as listener:
            gc.freeze()  # a collection in a rank would touch, and so copy, every page that it shares with the host
            for rank in range(self._attempt.world_size):
                self._fork(rank, listener)
            store = self._store(listener) if self._attempt.world_size > 1 else None
            ends = self._wait(tell)
        del store
        signal.signal(signal.SIGTERM, previous)
        return ends

    def _store(self, listener: socket.socket) -> TCPStore:
        port = listener.getsockname()[1]
        # the port was bound before any rank was told of it, so nobody else can take it
        world_size, descriptor = self._attempt.world_size, listener.detach()
        return TCPStore(LOOPBACK, port, world_size, is_master=True, wait_for_workers=False, master_listen_fd=descriptor)

    def _fork(self, rank: int, listener: socket.socket) -> None:
        host, port = os.getpid(), listener.getsockname()[1]
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = EXIT_LOST
            try:
                listener.close()
                code = self._child(rank, host, port, writing)
            except BaseException:  # noqa: BLE001 - nothing may get out of the child into the host's own frames
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        os.set_blocking(reading, False)
        self._running[pid] = _Rank(rank, reading)
        if self.stopping:
            os.kill(pid, signal.SIGTERM)

    def _child(self, rank: int, host: int, port: int, report: int) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with(host)
        _redirect(self._attempt.log(rank))
        threads = max(1, len(os.sched_getaffinity(0)) // self._attempt.world_size)
        os.environ.update(torchrun_environment(self._attempt, rank, port), OMP_NUM_THREADS=str(threads))
        torch.set_num_threads(threads)
        try:
            self._rank_main(self._attempt, rank)
        except Stopped:
            return EXIT_STOPPED
        except (Exception, SystemExit) as error:  # noqa: BLE001 - where user code ends: all that it raises becomes a record
            if isinstance(error, SystemExit) and not error.code:
                return EXIT_DONE
            traceback.print_exc()
            os.write(report, json.dumps(describe(error, rank, Path(self._attempt.code)).to_json()).encode())
            return EXIT_USER_ERROR
        return EXIT_DONE

    def _wait(self, tell: Callable[[End], None]) -> list[End]:
        ends: list[End] = []
        deadline_s: float | None = None
        while self._running:
            pid, status = os.waitpid(-1, 0 if deadline_s is None else os.WNOHANG)
            if pid == 0:
                if deadline_s is not None and time.monotonic() >= deadline_s:
                    self._kill()
                time.sleep(POLL_S)
            elif pid in self._running:
                end = _end(self._running.pop(pid), os.waitstatus_to_exitcode(status))
                ends.append(end)
                tell(end)
                if end.code not in (EXIT_DONE, EXIT_STOPPED) and deadline_s is None:
                    deadline_s = time.monotonic() + GRACE_S
        return ends

    def _kill(self) -> None:
        for pid, rank in self._running.items():
            rank.killed = True
            os.kill(pid, signal.SIGKILL)

    def _forward(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the form of a signal handler
        self.stopping = True
        for pid in self._running:
            with suppress(ProcessLookupError):  # it ended, and that is about to be seen
                os.kill(pid, signal.SIGTERM)


def torchrun_environment(attempt: Attempt, rank: int, port: int) -> dict[str, str]:
    """What torchrun would set for a rank of one machine; the store is the host's, as with torchrun's agent."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(attempt.world_size),
        "LOCAL_WORLD_SIZE": str(attempt.world_size),
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": attempt.run,
        "TORCHELASTIC_RESTART_COUNT": str(attempt.token - 1),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}),
    }


def _die_with(host: int) -> None:
    """Have the kernel kill this process when the host dies, however it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host:
        os._exit(EXIT_LOST)


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr] # both are text files here


def _end(rank: _Rank, code: int) -> End:
    try:
        said = os.read(rank.report, 1 << 20)
    except BlockingIOError:  # a process of the user's still holds the other end
        said = b""
    os.close(rank.report)
    return End(rank.number, code, time.time(), json.loads(said) if said else None, rank.killed)


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
