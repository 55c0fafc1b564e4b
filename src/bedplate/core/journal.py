"""The journal of an attempt: numbered JSON lines, one file a writer, from which the loop learns all that happened.

A line is appended with one write, so a killed writer leaves at most a torn last line, which no reader takes for a whole one. Entries are
ingested idempotently by (run, token, writer, number). Standard library only: the shim must start fast.
Does not know: what an entry means to a run; that is `run.advance` and the loop.

Kinds: `started`, `heartbeat`, `progress` {done, total, unit, note}, `metric` {values, step}, `param` {values}, `tag` {values},
`checkpoint` {step, location, digest}, `output` {an Output}, `evaluation` {metrics, decision}, `message` {text}, `ready` {port},
`failure` {failure, message, rank}, `restart` {generation, rank, failure, why, step, resumed_at, lost_steps}, `notice` {failure, message},
`rollout` {what, before, from, to, kind, step, share, outcome, why}, `timing` (see `train.timers`),
`process` {rank, code, signal}, `ended` {status, failure, message}.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

JOURNAL_FOLDER = "journal"


@dataclass(frozen=True)
class Entry:
    """One line: the `number`-th of `writer` ("shim" or "rank-0"…), written at `at_s` seconds since the epoch by the writer's clock."""

    writer: str
    number: int
    at_s: float
    kind: str
    body: Mapping[str, Any]


class JournalWriter:
    """Appends entries to `folder/journal/WRITER.jsonl`. Safe to use from several threads of one process."""

    def __init__(self, folder: Path, writer: str) -> None:
        """Open for appending; numbers go on after the last whole line, and a torn one is ended first."""
        path = folder / JOURNAL_FOLDER / f"{writer}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._writer = writer
        self._lock = Lock()
        existing = path.read_bytes()
        self._torn = bool(existing) and not existing.endswith(b"\n")
        self._number = max((entry.number for entry in _parse(existing, writer)), default=0)

    def write(self, kind: str, /, **body: Any) -> None:
        """Append one entry. Raises TypeError for a body that JSON cannot hold."""
        with self._lock:
            values = {"n": self._number + 1, "at": round(time.time(), 6), "kind": kind, "body": body}
            line = (b"\n" if self._torn else b"") + json.dumps(values, separators=(",", ":")).encode() + b"\n"
            self._number, self._torn = self._number + 1, True  # until all of it is there: a full disk may take a part
            while line:
                line = line[os.write(self._descriptor, line) :]
            self._torn = False

    def sync(self) -> None:
        """Make what was written survive power loss."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)


class JournalReader:
    """Reads what was appended since the last call, from every writer's file below `folder/journal`."""

    def __init__(self, folder: Path) -> None:
        """Begin before the first entry."""
        self._folder = folder / JOURNAL_FOLDER
        self._offsets: dict[str, int] = {}

    def read(self) -> list[Entry]:
        """New whole entries, in the order of their time; a torn last line stays for the next call.

        A writer's own entries stay in the order of their numbers, also when its clock was set back.
        """
        entries: list[tuple[float, Entry]] = []
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else []:
            with path.open("rb") as file:
                file.seek(self._offsets.get(path.name, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path.name] = self._offsets.get(path.name, 0) + len(whole)
            latest_s = 0.0
            for entry in _parse(whole, path.stem):
                latest_s = max(latest_s, entry.at_s)
                entries.append((latest_s, entry))
        return [entry for _, entry in sorted(entries, key=lambda pair: (pair[0], pair[1].writer, pair[1].number))]


def _parse(data: bytes, writer: str) -> Iterator[Entry]:
    for line in data.split(b"\n"):
        try:
            values = json.loads(line)
            yield Entry(writer, values["n"], values["at"], values["kind"], values["body"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            continue  # a line torn by a kill: its event did not happen, and what follows it is whole
