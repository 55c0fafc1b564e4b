"""Watching: what a launch is doing now, folded from the ledger and the journals of its live runs. Reads only.

Does not know: who hosts the loop, or how a person is shown what it sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bedplate.core.journal import JournalReader
from bedplate.core.record import RunRecord
from bedplate.flow.workspace import Workspace


@dataclass(frozen=True)
class Progress:
    """How far a live run is: `done` of `total` `unit`s (total 0: unknown), with a short note such as the newest loss."""

    run: str
    step: str
    status: str
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""


@dataclass
class Watch:
    """A follower of live runs; keeps its place in their journals between calls."""

    workspace: Workspace
    _readers: dict[tuple[str, int], JournalReader] = field(default_factory=dict)
    _seen: dict[str, Progress] = field(default_factory=dict)

    def progress(self, launch: str | None = None) -> list[Progress]:
        """The progress of the live runs (of one launch, if named), newest facts first read."""
        runs = [run for run in self.workspace.records.live() if launch in (None, run.launch) and run.status != "ready"]
        return [self._progress(run) for run in runs]

    def _progress(self, run: RunRecord) -> Progress:
        token = run.state.token
        reader = self._readers.setdefault((run.id, token), JournalReader(self.workspace.attempt_folder(run.id, token)))
        known = replace(self._seen.get(run.id, Progress(run.id, run.step, run.status)), status=run.status)
        for entry in reader.read():
            if entry.kind == "progress":
                known = Progress(run.id, run.step, run.status, **entry.body)
            elif entry.kind == "metric":
                note = "  ".join(f"{name} {value:.4g}" for name, value in sorted(entry.body["values"].items()))
                known = Progress(run.id, run.step, run.status, known.done, known.total, known.unit, note)
        self._seen[run.id] = known
        return known
