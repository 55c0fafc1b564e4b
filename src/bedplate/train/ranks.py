"""The host of an attempt's ranks: imports torch once, forks a process for each rank, replaces those that die, and says how they ended.

Torch and what a first step would import are loaded here, so ranks start with all of it, and a replacement too: the host is the warm spare.
It computes nothing and has no thread: no gloo, no backward, no accelerator, no store (`meeting`), whose threads and handles do not
survive a fork. It dies last. torchrun's environment is written here.
Does not know: what a rank does, or what follows from a loss (`generations` decides).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch._dynamo  # noqa: F401 - loaded here, so that no rank has to: the first wrapped model wants it

from bedplate.core.attempt import Attempt
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.core.run import crash_of
from bedplate.train.board import Board
from bedplate.train.failures import EXIT_DONE, EXIT_LOST, EXIT_STOPPED, EXIT_USER_ERROR, class_by_log
from bedplate.train.forking import LOOPBACK, Forks, RankMain, torchrun_environment
from bedplate.train.generations import Again, Broken, Death, GiveUp, Survivor, class_of, decide, fitting, limits_of
from bedplate.train.hangs import Limits, inspect, stuck_s
from bedplate.train.meeting import Meeting
from bedplate.train.recovery import assigned, whole_model_on_each_rank
from bedplate.train.replicas import Lighthouse
from bedplate.train.seat import Assignment, Line

__all__ = ["End", "run_ranks", "torchrun_environment", "verdict"]

GRACE_S = 1.0  # from the first rank that failed for good to a kill of the others
GATHER_S = 10.0  # for the others to notice a loss, besides some steps
ANEW_S = 3.0  # the same where all are forked anew: for a checkpoint that is being written; a rank may be stuck in a part of the mesh
ECHO_S = 1.0  # for a death to be seen when all ranks lost touch
LOOK_S = 0.25
WORKERS_FILE = "workers"


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
    line: Line
    failure: dict[str, Any] | None = None  # why it says that it fails
    lost: dict[str, Any] | None = None  # what it says of a broken generation, while it waits
    hung: bool = False
    killed: bool = False


@dataclass
class _Break:
    """A generation that is breaking: who died so far, and until when the others have time to notice."""

    deadline_s: float
    begun_s: float = field(default_factory=time.monotonic)
    deaths: list[Death] = field(default_factory=list)


def run_ranks(attempt: Attempt, rank_main: RankMain) -> int:
    """Run `rank_main(attempt, seat)` in `world_size` forked processes and return the exit code of the attempt (see `failures`).

    The journal gets `process` {rank, code} for each, `restart` for each generation after the first, `notice` for what ended nothing, and
    one `failure` {failure, message, rank, traceback}: of the rank that failed first, not of those that only felt its absence.
    """
    journal = JournalWriter(attempt.path, "host")
    host = _Host(attempt, rank_main, journal)
    ends = host.run()
    code, failure = verdict(ends, host.stopping)
    if host.given_up is not None:
        told = {"failure": host.given_up.failure, "message": host.given_up.message, "rank": 0, "traceback": "", **(failure or {})}
        code, failure = EXIT_USER_ERROR, {**told, "failure": host.given_up.failure, "message": host.given_up.message}
    if failure is not None:
        journal.write("failure", **failure, **host.last_death(failure))
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
    users = [failure for failure in told if failure["failure"] != "worker_lost"]
    expected = {EXIT_DONE, EXIT_STOPPED, *((-signal.SIGTERM,) if stopping else ())}
    lost = [end for end in ends if end.failure is None and not end.by_host and end.code not in expected]
    if users and not (lost and lost[0].at_s < users[0]["at_s"]):
        return EXIT_USER_ERROR, users[0]
    if lost:
        message = f"rank {lost[0].rank} {ending(lost[0].code)}"
        return EXIT_LOST, {"failure": "worker_lost", "message": message, "rank": lost[0].rank, "traceback": "", "at_s": lost[0].at_s}
    if stopping or any(end.code == EXIT_STOPPED for end in ends):
        return EXIT_STOPPED, None
    return EXIT_LOST, told[0] if told else None


class _Host:
    """Forks the ranks, passes the stop notice on, watches, and replaces."""

    def __init__(self, attempt: Attempt, rank_main: RankMain, journal: JournalWriter) -> None:
        self._attempt = attempt
        self._first = attempt
        self._journal = journal
        self._least, self._most = limits_of(attempt)
        self._board = Board(self._most)
        self._forks = Forks(rank_main, self._board)
        self._running: dict[int, _Rank] = {}
        self._ends: list[End] = []
        self._generation = 0
        self._restarts_left = int(attempt.spec.get("restarts_left", 0))
        self._in_place = attempt.spec.get("recovery", "in_place") != "attempt"
        self._apart = attempt.spec.get("recovery") == "replicas"  # then nobody waits for one that is lost
        self._meeting: Meeting | None = None
        self._break: _Break | None = None
        self._deadline_s: float | None = None  # when all that still runs is killed
        self._last: Death | None = None
        self._crash: tuple[str, int] | None = None
        self._skip: tuple[tuple[int, int, int], ...] = ()
        self._overrides: Mapping[str, Any] = {}
        self._batch_size: int | None = None
        self._short: tuple[int, int] | None = None  # when so many were asked for, there was room for so many
        self._limits = Limits(attempt.spec.get("hang_after_s"), float(attempt.spec.get("start_limit_s") or Limits.start_s))
        self.stopping = False
        self.given_up: GiveUp | None = None

    def run(self) -> list[End]:
        """Run all ranks to their ends; those of the last generation, in the order in which they ended."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGCHLD)}
        try:
            lighthouse = Lighthouse(self._attempt) if self._apart else None
            # the port is bound before any rank is told of it, so nobody else can take it
            with socket.create_server((LOOPBACK, 0), backlog=self._most + 16) as listener:
                self._forks.begin(listener)
                self._meeting = Meeting(self._attempt, listener, self._most) if self._most > 1 else None
            for rank in range(self._attempt.world_size):
                self._fork(rank, None)
            while self._running:
                self._turn(reading)
            for beside in (self._meeting, lighthouse):
                if beside is not None:
                    beside.close()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(reading)
            os.close(writing)
        return self._ends

    def last_death(self, failure: Mapping[str, Any]) -> dict[str, Any]:
        """By what signal, and after which step, the rank that a failure tells of died; nothing for one that ended by itself."""
        if self._last is None or failure.get("failure") not in ("worker_lost", "node_lost", "crash_loop"):
            return {}
        return {"signal": self._last.signal, "step": self._last.step}

    def _fork(self, number: int, assignment: Assignment | None) -> int:
        """Fork a rank. Raises OSError when this machine can start no process."""
        seat = self._board.seat(number)
        seat.clear()
        attempt = self._attempt if assignment is None else assigned(self._first, assignment)
        pid, line = self._forks.fork(attempt, number, assignment, [rank.line for rank in self._running.values()])
        self._running[pid] = _Rank(number, line)
        if self.stopping:
            os.kill(pid, signal.SIGTERM)
        return pid

    def _hear(self, signum: int, frame: object) -> None:  # noqa: ARG002 - the form of a signal handler
        if signum == signal.SIGTERM:
            self.stopping = True
            for pid in self._running:
                with suppress(ProcessLookupError):  # it ended, and that is about to be seen
                    os.kill(pid, signal.SIGTERM)

    # -- one turn -----------------------------------------------------------------------------------------------------------------

    def _turn(self, reading: int) -> None:
        """Wait for something to happen, at most a quarter of a second, and act on it."""
        by_file = {rank.line.fileno(): rank for rank in self._running.values()}
        ready, _, _ = select.select([reading, *by_file], [], [], LOOK_S if self._break is None else 0.05)
        if reading in ready:
            with suppress(BlockingIOError):
                os.read(reading, 4096)
        for number in ready:
            if number in by_file:
                self._listen(by_file[number])
        self._reap()
        if self._meeting is not None and self._meeting.ended():
            self._kill(self._running.values())  # whoever is lost from now on could not be replaced: the attempt begins anew
        now_s = time.monotonic()
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._kill(self._running.values())
        elif self._break is not None and self._deadline_s is None:
            self._mind_break(self._break, now_s)
        elif self._deadline_s is None:
            self._mind_size()
            self._mind_progress(now_s)

    def _listen(self, rank: _Rank) -> None:
        for message in rank.line.received(wait=False) or ():
            if message["kind"] == "failure":
                rank.failure = message["failure"]
            elif message["kind"] == "loop":
                self._batch_size = int(message["batch_size"])
            elif message["kind"] == "notice":
                self._journal.write("notice", **message["notice"])
            elif message["kind"] == "lost" and message["generation"] == self._generation:
                rank.lost = message
                if self._deadline_s is None:
                    self._broken()
                else:
                    rank.line.send("end")

    def _reap(self) -> None:
        for pid in list(self._running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                rank = self._running.pop(pid)
                self._listen(rank)
                rank.line.close()
                self._take(rank, os.waitstatus_to_exitcode(status))

    def _take(self, rank: _Rank, code: int) -> None:
        end = End(rank.number, code, time.time(), rank.failure, rank.killed and not rank.hung)
        self._journal.write("process", rank=rank.number, code=code)
        if code in (EXIT_DONE, EXIT_STOPPED):
            self._ends.append(end)
            return
        if rank.killed and not rank.hung:
            if self._break is None:
                self._ends.append(end)
            return
        death = self._death(rank, code)
        if rank.failure is None or rank.hung:  # else it said why, or only felt the absence of another
            self._last = death
        if not self._replaceable(death):
            self._ends.append(end)
            self._finish()
            return
        if self._apart:
            self._rejoin(death)
        else:
            self._broken().deaths.append(death)

    def _rejoin(self, death: Death) -> None:
        """Fork one replica anew; the others go on and take it in when it comes."""
        crash = crash_of({"signal": death.signal, "step": death.step})
        if crash is not None and crash == self._crash:
            self.given_up = GiveUp("crash_loop", f"{death.message}: the second {crash[0]} at step {crash[1]}")
            self._finish()
            return
        self._generation, self._restarts_left, self._crash = self._generation + 1, self._restarts_left - 1, crash
        newest = next(iter(self._checkpoints()), None)
        self._fork(death.rank, Assignment(self._generation, death.rank, self._attempt.world_size, checkpoint=newest, drawn_by=death.rank))
        furthest = max(self._board.seat(number).standing().steps for number in range(self._attempt.world_size))
        self._journal.write(
            "restart",
            generation=self._generation,
            rank=death.rank,
            failure=death.failure,
            why=death.message,
            signal=death.signal,
            step=death.step,
            resumed_at=max(furthest, 0),
            lost_steps=0,
            exact=False,
            kept=len(self._running) - 1,
            world_size=self._attempt.world_size,
            waited_s=0.0,
        )

    def _death(self, rank: _Rank, code: int) -> Death:
        failure = (rank.failure or {}).get("failure", "hang" if rank.hung else "worker_lost")
        by_log = class_by_log(self._attempt.log(rank.number), self._attempt.spec.get("on_log") or {})
        message = (rank.failure or {}).get("message") or f"rank {rank.number} {ending(code)}"
        step = max(0, self._board.seat(rank.number).standing().steps)
        return Death(rank.number, signal.Signals(-code).name if code < 0 else f"exit {code}", step, class_of(failure, by_log), message)

    def _replaceable(self, death: Death) -> bool:
        """Whether a new rank may take the place of one that died so, in this attempt."""
        if self.stopping or self._deadline_s is not None or not self._in_place or death.failure not in ("worker_lost", "hang"):
            if death.failure == "node_lost":
                self.given_up = GiveUp("node_lost", f"{death.message}; its log matches `on_log`")
            return False
        return self._restarts_left > 0 and not any(end.code == EXIT_DONE for end in self._ends)

    # -- a broken generation ------------------------------------------------------------------------------------------------------

    def _broken(self) -> _Break:
        if self._break is None:
            longest_s = max((self._board.seat(rank.number).standing().longest_step_s for rank in self._running.values()), default=0.0)
            self._break = _Break(time.monotonic() + (GATHER_S + 3 * longest_s if self._keeps() else ANEW_S))
        return self._break

    def _keeps(self) -> bool:
        """Whether a survivor's state is everybody's, so that survivors are worth waiting for."""
        kept = whole_model_on_each_rank(self._attempt) and not self._attempt.accelerators
        return kept and self._attempt.spec.get("recovery") != "fork"

    def _mind_break(self, broken: _Break, now_s: float) -> None:
        waiting = [rank for rank in self._running.values() if rank.lost is not None]
        if self.stopping or any(end.code != EXIT_DONE for end in self._ends):
            self._finish()
        elif len(waiting) == len(self._running):
            own = any(rank.lost is not None and rank.lost["failure"] != "worker_lost" for rank in waiting)
            if broken.deaths or own or now_s - broken.begun_s > ECHO_S:
                self._go_on(broken)
        elif now_s >= broken.deadline_s:
            self._kill(rank for rank in self._running.values() if rank.lost is None)

    def _go_on(self, broken: _Break) -> None:
        """All that live wait: decide, and perform it."""
        keeps = self._keeps()
        decision = decide(self._seen(broken), self._drawn, in_memory=keeps)
        while isinstance(decision, Again) and not self._forked(decision):
            decision = decide(self._seen(broken), self._drawn, in_memory=keeps)
        if isinstance(decision, GiveUp):
            self.given_up = decision if decision.failure != "worker_lost" else None
            self._finish()
            return
        took_s = time.monotonic() - broken.begun_s
        self._generation += 1
        self._crash = self._crash_after(broken)
        self._perform(decision)
        self._break = None
        self._restarts_left -= decision.failure != "resize"
        self._journal.write(
            "restart",
            generation=self._generation,
            rank=broken.deaths[0].rank if broken.deaths else None,
            failure=decision.failure,
            why=decision.message,
            signal=broken.deaths[0].signal if broken.deaths else None,
            step=broken.deaths[0].step if broken.deaths else decision.step,
            resumed_at=decision.step,
            lost_steps=decision.lost_steps,
            exact=decision.exact,
            kept=len(decision.moved),
            world_size=self._attempt.world_size,
            waited_s=round(took_s, 4),
        )

    def _seen(self, broken: _Break) -> Broken:
        survivors = [
            Survivor(
                rank.number,
                rank.lost["failure"],
                rank.lost["message"],
                rank.lost["position"],
                None if rank.lost["where"] is None else tuple(rank.lost["where"]),
            )
            for rank in self._running.values()
            if rank.lost is not None
        ]
        furthest = max(self._board.seat(number).standing().steps for number in range(self._attempt.world_size))
        return Broken(
            generation=self._generation,
            world_size=self._attempt.world_size,
            deaths=tuple(broken.deaths),
            survivors=tuple(sorted(survivors, key=lambda each: each.rank)),
            restarts_left=self._restarts_left,
            least=self._least,
            wanted=self._wanted(),
            batch_size=self._batch_size,
            crash=self._crash,
            checkpoints=tuple(self._checkpoints()),
            skip=self._skip,
            spec=self._settings(),
            furthest=max(furthest, 0),
        )

    def _settings(self) -> dict[str, Any]:
        kept = ("accumulate", "rollback")
        return {**{name: self._attempt.spec[name] for name in kept if self._attempt.spec.get(name)}, **self._overrides}

    def _checkpoints(self) -> list[Mapping[str, Any]]:
        """Committed checkpoints, newest first, each with those before it to fall back to."""
        written = [entry.body for entry in JournalReader(self._attempt.path).read() if entry.kind == "checkpoint"]
        known: list[Mapping[str, Any]] = []
        before = self._first.checkpoint
        for body in ([before] if before else []) + written:
            known.insert(0, {**body, "previous": [{k: v for k, v in each.items() if k != "previous"} for each in known[:2]]})
        if before and before.get("previous") and known:
            known[-1] = before
        return known

    def _crash_after(self, broken: _Break) -> tuple[str, int] | None:
        return (broken.deaths[0].signal, broken.deaths[0].step) if broken.deaths else self._crash

    def _drawn(self, rank: int, step: int) -> bool:
        return self._board.seat(rank).generators(step) is not None

    def _perform(self, decision: Again) -> None:
        """Give those that wait their seats."""
        for rank in [each for each in self._running.values() if each.lost is not None]:
            assignment = decision.moved[rank.number]
            rank.number, rank.lost = assignment.rank, None
            rank.line.send("assign", assignment=asdict(assignment))
        first = next(iter([*decision.moved.values(), *decision.forked]))
        self._skip, self._overrides = first.skip, first.spec
        self._attempt = replace(self._attempt, world_size=first.world_size)

    def _forked(self, decision: Again) -> bool:
        """End those without a seat, and fork what is missing.

        When this machine can start no more processes, an elastic job is decided anew with as many as there are.
        """
        self._end([pid for pid, rank in self._running.items() if rank.lost is not None and rank.number not in decision.moved])
        begun: list[int] = []
        try:
            for assignment in decision.forked:
                begun.append(self._fork(assignment.rank, assignment))
        except OSError as error:
            self._end(begun)
            self._generation += 1  # what those have told the store is nobody's
            self._short = self._asked(), len(decision.moved) + len(begun)
            told = f"this machine could start {len(begun)} of {len(decision.forked)} processes: {error.strerror}"
            self._journal.write("message", text=told)
            if self._short[1] < self._least or self._least == self._most:
                self._restarts_left = 0  # nothing else can be decided than to end this attempt
            return False
        return True

    def _end(self, pids: Sequence[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._running.pop(pid).line.close()

    def _finish(self) -> None:
        """No next generation: whoever waits for one is told, and what runs on is killed soon."""
        if self._break is not None:
            for death in self._break.deaths:
                self._ends.append(End(death.rank, _code(death.signal), time.time(), None, False))
            self._break = None
        for rank in self._running.values():
            if rank.lost is not None:
                rank.line.send("end")
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + GRACE_S

    def _kill(self, ranks: Any) -> None:
        chosen = {id(rank) for rank in ranks}
        for pid, rank in self._running.items():
            if id(rank) in chosen:
                rank.killed = True
                os.kill(pid, signal.SIGKILL)

    # -- size and progress --------------------------------------------------------------------------------------------------------

    def _wanted(self) -> int:
        """How many workers there should be: what the file `workers` in the run's folder says, within the job's bounds."""
        asked = self._asked()
        if self._short is not None and self._short[0] == asked:
            return self._short[1]  # until somebody asks for something else
        return asked

    def _asked(self) -> int:
        try:
            asked = int((self._attempt.path.parent / WORKERS_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return self._attempt.world_size
        return min(max(asked, self._least), self._most)

    def _mind_size(self) -> None:
        if self._least == self._most or self._board.called > self._generation or self._apart:
            return
        if fitting(self._wanted(), self._least, self._batch_size) not in (None, self._attempt.world_size):
            self._board.called = self._generation + 1

    def _mind_progress(self, now_s: float) -> None:
        standings = {rank.number: self._board.seat(rank.number).standing() for rank in self._running.values()}
        if not standings or self.stopping or any(rank.killed for rank in self._running.values()):
            return
        waited_s = stuck_s(list(standings.values()), now_s)
        if waited_s <= self._limits.of(list(standings.values())):
            return
        lines = {rank.number: rank.line for rank in self._running.values()}
        pids = {rank.number: pid for pid, rank in self._running.items()}
        folder = self._attempt.path / "stacks"
        report = inspect(folder, pids, standings, lambda number, path: lines[number].send("record", path=str(path)))
        message = report.message(waited_s)
        told = {"failure": "hang", "message": message, "missing": list(report.missing), "waited_s": round(waited_s, 3)}
        self._journal.write("notice", **told, stacks=list(report.stacks), collectives=report.collectives)
        for rank in self._running.values():
            rank.hung = rank.number in report.missing or not report.missing
        for pid, rank in self._running.items():
            if rank.hung:
                rank.killed = True
                rank.failure = {"failure": "hang", "message": message, "rank": rank.number, "traceback": "", "at_s": time.time()}
                os.kill(pid, signal.SIGKILL)


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _code(sign: str) -> int:
    return -signal.Signals[sign].value if sign.startswith("SIG") else int(sign.removeprefix("exit "))
