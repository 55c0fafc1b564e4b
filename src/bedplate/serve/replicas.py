"""Keeping replicas: as many processes as are wanted, each from its start to its end, replaced when it dies.

A replica that is too many is drained: it gets no more requests, and is told to end when none is under way. One that dies is replaced at
once, one that dies before it answered after a pause, doubled each time.
Does not know: what a replica runs (whoever starts it), who asks it (`router`), how many there should be.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

BACK_OFF_S = (0.2, 10.0)
DRAIN_S = 30.0  # after that a replica is told to end, whatever is under way
END_S = 15.0  # after that it is killed
FAILED_STARTS = 3  # in a row, with none ever ready: it is the replica's fault


class Process(Protocol):
    """What is kept: `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def terminate(self) -> None:
        """Tell it to end."""

    def kill(self) -> None:
        """End it."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""


@dataclass(eq=False)
class Replica:
    """One process. `port` is 0 until it answers; `leaving_s` and `told_s` say since when it drains, and was told to end."""

    number: int
    process: Process
    begun_s: float
    port: int = 0
    leaving_s: float | None = None
    told_s: float | None = None


class Keeper:
    """Keeps replicas. Belongs to one thread; `tick` is to be called several times a second."""

    def __init__(self, start: Callable[[int], Process], port: Callable[[Replica], int], in_flight: Callable[[Replica], int]) -> None:
        """`start` starts the process of a number, `port` says where one answers (0: it does not), `in_flight` what it still has to do."""
        self._start = start
        self._port = port
        self._in_flight = in_flight
        self.replicas: list[Replica] = []
        self.wanted = 0
        self.deaths = 0
        self.start_s = 0.0  # how long the last one took until it answered
        self._failed = 0
        self._ever = False
        self._due_s = 0.0

    @property
    def ready(self) -> list[Replica]:
        """Replicas that answer and are to be asked."""
        return [one for one in self.replicas if one.port and one.leaving_s is None]

    @property
    def hopeless(self) -> bool:
        """Whether starting another is no use: none ever answered, and several died."""
        return not self._ever and self._failed >= FAILED_STARTS

    def tick(self) -> None:
        """Look what became of the processes; start, drain and end what `wanted` asks for."""
        now_s = time.monotonic()
        for one in list(self.replicas):
            self._look(one, now_s)
        staying = [one for one in self.replicas if one.leaving_s is None]
        surplus = sorted(staying, key=lambda one: (bool(one.port), one.number), reverse=True)[self.wanted :] if self.wanted else staying
        for one in surplus:
            one.leaving_s = now_s
        if len(staying) < self.wanted and now_s >= self._due_s:
            for _ in range(self.wanted - len(staying)):
                number = next(number for number in range(1, 1000) if number not in {one.number for one in self.replicas})
                self.replicas.append(Replica(number, self._start(number), now_s))

    def _look(self, one: Replica, now_s: float) -> None:
        if one.process.poll() is not None:
            self.replicas.remove(one)
            if one.leaving_s is None:
                self._died(one, now_s)
            return
        if not one.port:
            one.port = self._port(one)
            if one.port:
                self._ever, self._failed, self.start_s = True, 0, now_s - one.begun_s
        if one.leaving_s is not None and one.told_s is None and (not self._in_flight(one) or now_s - one.leaving_s > DRAIN_S):
            one.told_s = now_s
            one.process.terminate()
        if one.told_s is not None and now_s - one.told_s > END_S:
            one.process.kill()

    def _died(self, one: Replica, now_s: float) -> None:
        self.deaths += 1
        if not one.port:
            self._failed += 1
            self._due_s = now_s + min(BACK_OFF_S[1], BACK_OFF_S[0] * 2**self._failed)

    def close(self) -> None:
        """Tell all to end, and wait until they did; those that do not are killed."""
        for one in self.replicas:
            if one.told_s is None:
                one.process.terminate()
        end_s = time.monotonic() + END_S
        for one in self.replicas:
            try:
                one.process.wait(max(0.0, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        self.replicas.clear()
