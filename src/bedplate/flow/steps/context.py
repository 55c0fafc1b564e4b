"""What every kind of step's work is given: the attempt, its journal, its input versions, and how to report progress and outputs.

It must import quickly: a training's workers wait for it.
Does not know: what any step does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock
from bedplate.core.journal import JournalWriter
from bedplate.core.versions import Output, Version, VersionKind
from bedplate.data.streams.log import Log

PROGRESS_S = 0.25


class StepContext:
    """The surroundings of one attempt's work. `writer` names its journal file."""

    def __init__(self, attempt: Attempt, writer: str = "worker") -> None:
        """Open the journal and put the snapshot of the project's code first on the import path."""
        self.attempt = attempt
        self.state = Path(attempt.state)
        self.lake_uri = attempt.lake
        self.root = Path(attempt.root)
        self.journal = JournalWriter(attempt.path, writer)
        self._told_at_s = 0.0
        sys.path.insert(0, attempt.code)

    def version(self, name: str) -> Version:
        """The input version of that name."""
        values = {field: value for field, value in self.attempt.inputs[name].items() if field != "path"}
        return Version.from_json(values)

    def path(self, name: str) -> Path:
        """Where the bytes of an input version lie."""
        return Path(self.attempt.inputs[name]["path"])

    def log(self, topic: str) -> Log:
        """The project's embedded stream of that topic."""
        return Log(self.state / "log" / topic, SystemClock())

    def progress(self, unit: str) -> Callable[[int, int], None]:
        """A callback (done, total) that tells the journal at most four times a second, and at the end."""

        def tell(done: int, total: int) -> None:
            now_s = time.monotonic()
            if done == total or now_s - self._told_at_s > PROGRESS_S:
                self._told_at_s = now_s
                self.journal.write("progress", done=done, total=total, unit=unit, note="")

        return tell

    def output(self, name: str, kind: VersionKind, digest: str, location: Path, **meta: Any) -> None:
        """Say that an output exists. `location` is absolute; it is recorded relative to the state folder, or for a file to the project."""
        base = self.root if kind == "file" else self.state
        made = Output(name, kind, digest, str(location.relative_to(base)), meta)
        self.journal.write("output", **made.to_json())
        self.journal.sync()
