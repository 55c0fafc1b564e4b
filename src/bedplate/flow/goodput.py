"""Where the time of a run went: its goodput ledger, from the ledger's events and the journals of its attempts. Reads only.

Does not know: what the buckets mean (`train.goodput`), or why a step is slow (`diagnosing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bedplate.core.journal import Entry, JournalReader
from bedplate.core.record import AttemptRecord, RunRecord
from bedplate.flow.workspace import Workspace
from bedplate.train.goodput import AttemptTimes, Goodput, fold, rows_of

Body = Mapping[str, Any]
Timings = dict[int, list[tuple[float, Body]]]


def goodput(workspace: Workspace, run_id: str) -> Goodput:
    """Every second of a run in its bucket; a run that lasts up to its newest row. Raises NotFound."""
    run = workspace.records.run(run_id)
    times = [_times(attempt, entries_of(workspace, run, attempt)) for attempt in run.attempts]
    ended_s = run.ended_at_s if run.ended or times else run.created_at_s
    return fold(run.created_at_s, ended_s, times)


def entries_of(workspace: Workspace, run: RunRecord, attempt: AttemptRecord) -> list[Entry]:
    """What an attempt's journals say."""
    return JournalReader(workspace.attempt_folder(run.id, attempt.token)).read()


def timings_of(entries: Sequence[Entry]) -> Timings:
    """The `timing` entries of each rank in their order, with when each was written."""
    found: Timings = {}
    for entry in entries:
        if entry.kind == "timing" and entry.writer.startswith("rank-"):
            found.setdefault(int(entry.writer.removeprefix("rank-")), []).append((entry.at_s, entry.body))
    return dict(sorted(found.items()))


def _times(attempt: AttemptRecord, entries: Sequence[Entry]) -> AttemptTimes:
    rows = {f"rank-{rank}": rows_of(each) for rank, each in timings_of(entries).items()}
    checkpoints = sum(entry.kind == "checkpoint" for entry in entries)
    failed = attempt.status == "failed"
    return AttemptTimes(attempt.started_at_s, attempt.ended_at_s, failed, rows, checkpoints, len(attempt.restarts))
