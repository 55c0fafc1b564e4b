"""Forking a rank from the host that imported torch: what the new process undoes, sets and redirects before it is a rank.

torchrun's environment is written here. Does not know: generations, or what a rank computes.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bedplate.core.attempt import Attempt
from bedplate.train.board import Board
from bedplate.train.failures import EXIT_DONE, EXIT_LOST, EXIT_STOPPED, EXIT_USER_ERROR, describe
from bedplate.train.hangs import STACK_SIGNAL, stack_file
from bedplate.train.notice import Stopped
from bedplate.train.seat import Assignment, Line, Seat

LOOPBACK = "127.0.0.1"
PR_SET_PDEATHSIG = 1  # prctl(2)
RECORDED_COLLECTIVES = "256"
QUIET = "warn"  # torchft logs several lines a step otherwise

RankMain = Callable[[Attempt, Seat], Any]


@dataclass
class Forks:
    """Starts ranks. Call `begin` once, when all that they shall share is loaded."""

    rank_main: RankMain
    board: Board
    _port: int = field(default=0, init=False)

    def begin(self, listener: socket.socket) -> None:
        """Ranks meet at the port of `listener`, which is not open here any more when the first is forked."""
        self._port = listener.getsockname()[1]
        gc.freeze()  # a collection in a rank would touch, and so copy, every page that it shares with the host

    def fork(self, attempt: Attempt, rank: int, assignment: Assignment | None, others: Sequence[Line]) -> tuple[int, Line]:
        """Fork one rank; returns its pid and the host's end of its line. Raises OSError when there can be no further process."""
        host, child_end = socket.socketpair()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError:
            host.close()
            child_end.close()
            raise
        if pid == 0:
            code = EXIT_LOST
            try:
                _undo([host, *others])
                line = Line(child_end)
                generation = assignment.generation if assignment is not None else 0
                seat = Seat(rank, attempt.world_size, generation, line, self.board, assignment)
                code = self._child(attempt, seat, parent)
            except BaseException:  # noqa: BLE001 - nothing may get out of the child into the host's own frames
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        child_end.close()
        return pid, Line(host)

    def _child(self, attempt: Attempt, seat: Seat, host: int) -> int:
        _die_with(host)
        _redirect(attempt.log(seat.rank))
        _write_stacks_on_signal(attempt.path / "stacks", seat.rank)
        threads = max(1, len(os.sched_getaffinity(0)) // attempt.world_size)
        os.environ.update(torchrun_environment(attempt, seat.rank, self._port), OMP_NUM_THREADS=str(threads))
        os.environ.setdefault("TORCH_FR_BUFFER_SIZE", RECORDED_COLLECTIVES)
        os.environ.setdefault("RUST_LOG", QUIET)
        torch.set_num_threads(threads)
        try:
            self.rank_main(attempt, seat)
        except Stopped:
            return EXIT_STOPPED
        except (Exception, SystemExit) as error:  # noqa: BLE001 - where user code ends: all that it raises becomes a record
            if isinstance(error, SystemExit) and not error.code:
                return EXIT_DONE
            traceback.print_exc()
            seat.tell("failure", failure=describe(error, seat.rank, Path(attempt.code)).to_json())
            return EXIT_USER_ERROR
        return EXIT_DONE


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


def _undo(lines: Sequence[socket.socket | Line]) -> None:
    """Let go of what is the host's."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for line in lines:
        line.close()


def let_go(log: Path, host: int) -> None:
    """Make a process that was forked from the host one of its own, which ends with the host and prints into `log`."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _die_with(host)
    _redirect(log)
    os.environ.setdefault("RUST_LOG", QUIET)


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


def _write_stacks_on_signal(folder: Path, rank: int) -> None:
    """A crash writes the stacks of all threads to the log; the host's signal writes them to a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    faulthandler.enable(file=2)
    file = stack_file(folder, rank).open("a")
    faulthandler.register(STACK_SIGNAL, file=file, all_threads=True, chain=False)
