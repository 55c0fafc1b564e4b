"""A rank's seat: its number, generation and world, and the line to the host on which it hears what comes next.

A *generation* is one life of the process group: when a rank is lost, those that are left wait here for their assignment to the next one.
Messages are JSON, a line each. Does not know: models, or what the host decides.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bedplate.train.board import Board

MESSAGE_BYTES = 1 << 16


@dataclass(frozen=True)
class Assignment:
    """What the host tells a rank for a generation.

    `source` is the rank whose state in memory all take, with the `position` of that state; without one, `checkpoint` (the newest) is where
    to go on. `drawn_by` is the seat whose generators the rank takes over; `spec` overrides fields of the step's spec; `skip` are the places
    in the data (loop, epoch, sample behind the batch) that are left out.
    """

    generation: int
    rank: int
    world_size: int
    source: int | None = None
    position: Mapping[str, int] | None = None
    checkpoint: Mapping[str, Any] | None = None
    drawn_by: int = 0
    spec: Mapping[str, Any] = field(default_factory=dict)
    skip: tuple[tuple[int, int, int], ...] = ()

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Assignment:
        """The inverse of `dataclasses.asdict`, after JSON."""
        return Assignment(**{**values, "skip": tuple(tuple(each) for each in values["skip"])})


class Line:
    """One end of the line between a rank and its host."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending = b""

    def fileno(self) -> int:
        """For `select`."""
        return self._connection.fileno()

    def send(self, kind: str, **body: Any) -> None:
        """Send one message; one to an end that is gone is dropped: its process is."""
        try:
            self._connection.sendall(json.dumps({"kind": kind, **body}).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            return

    def received(self, *, wait: bool) -> list[dict[str, Any]] | None:
        """The messages that came; None when the other end is gone. With `wait`, at least one."""
        messages: list[dict[str, Any]] = []
        while not messages:
            try:
                data = self._connection.recv(MESSAGE_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:
                return None
            if not data:
                return None
            *lines, self._pending = (self._pending + data).split(b"\n")
            messages = [json.loads(line) for line in lines]
        return messages

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@dataclass
class Seat:
    """Where a rank sits. `line` and `board` are None for a rank that runs without a host, as in a notebook."""

    rank: int
    world_size: int = 1
    generation: int = 0
    line: Line | None = None
    board: Board | None = None
    assignment: Assignment | None = None
    _inbox: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)
    _listening: bool = False

    def tell(self, kind: str, **body: Any) -> None:
        """Say something to the host."""
        if self.line is not None:
            self.line.send(kind, **body)

    def next_assignment(self) -> Assignment | None:
        """Wait for the host's word: where to sit next, or None when this rank is to end. Without a host there is no next."""
        if self.line is None:
            return None
        message = self._inbox.get()
        if message is None or message["kind"] != "assign":
            return None
        self.assignment = Assignment.from_json(message["assignment"])
        self.rank, self.world_size = self.assignment.rank, self.assignment.world_size
        self.generation = self.assignment.generation
        return self.assignment

    def listen(self, answer: Mapping[str, Callable[[Mapping[str, Any]], None]]) -> None:
        """From now on hear the host in a thread, also while the rank is stuck in a collective. `answer` maps a kind to what is called."""
        if self.line is None or self._listening:
            return
        self._listening = True
        threading.Thread(target=self._hear, args=(answer,), name=f"line of process {os.getpid()}", daemon=True).start()

    def _hear(self, answer: Mapping[str, Callable[[Mapping[str, Any]], None]]) -> None:
        assert self.line is not None
        while (messages := self.line.received(wait=True)) is not None:
            for message in messages:
                if message["kind"] in answer:
                    answer[message["kind"]](message)
                else:
                    self._inbox.put(message)
        self._inbox.put(None)
