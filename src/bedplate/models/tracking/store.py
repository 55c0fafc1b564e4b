"""What the routes stand on: the ledger for what is said of runs, the journal for their points, the index to find them again.

Writes are grouped: a request stages its events and points, and `commit` makes all that was staged since the last one durable at once; a
request is answered after that. Whoever needs to see what others staged about the same thing calls `settle` or `fresh` first.
Does not know: HTTP, or MLflow's forms.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.core.event import Draft, Event
from bedplate.core.ledger import Ledger
from bedplate.models.tracking import drafts
from bedplate.models.tracking.index import DEFAULT_EXPERIMENT, Index
from bedplate.models.tracking.points import PointJournal, latest_of
from bedplate.models.tracking.refusal import invalid, missing
from bedplate.models.tracking.validation import Point

INDEX_FILE = "index.db"
FOLDER = "tracking"
SERIES = "series"
ARTIFACTS = "artifacts"
_LOG = logging.getLogger("bedplate.models.tracking")


class Tracking:
    """Experiments, runs and models of one project, open for writing by one server. One instance belongs to one thread."""

    def __init__(self, state: Path, ledger: Ledger, project: str, key: Ed25519PrivateKey, guarded: Collection[str] = ()) -> None:
        """Open what lies below `state`. `key` signs the moves of aliases; `guarded` are the models whose aliases no client may move.

        Raises Busy when another live process serves this project.
        """
        self.state = state
        self.artifacts = state / ARTIFACTS
        self.attempts = state / "runs"
        self.key = key
        self.guarded = frozenset(guarded)
        self.ledger = ledger
        self.points = PointJournal(state / FOLDER / "points", state / SERIES)
        self.index = Index(state / FOLDER / INDEX_FILE, project)
        self._staged: list[Draft] = []
        self._touched: set[str] = set()
        self._latest: dict[tuple[str, str], Point] = {}
        self._active: set[str] = set()
        self.checked: set[str] = set()  # names of metrics that were found good
        self._folder: threading.Thread | None = None
        self._begin()

    def _begin(self) -> None:
        self.index.catch_up(self.ledger)
        if self.index.rebuilt:
            self.index.store_latest(self.points.stored_latest())
        if self.points.recovered:
            self.index.store_latest(latest_of(self.points.recovered))
            self.points.recovered.clear()
        if self.index.database.execute("SELECT 1 FROM experiments WHERE id = ?", (DEFAULT_EXPERIMENT,)).fetchone() is None:
            self.stage(drafts.experiment_created(DEFAULT_EXPERIMENT, "Default", at_ms=now_ms()))
            self.commit()

    def close(self) -> None:
        """Commit, fold the points into the series store, release the files. The ledger stays open."""
        self.commit()
        self.flush_latest()
        if self._folder is not None:
            self._folder.join()
        self.points.close()
        self.index.close()

    # -- writing ------------------------------------------------------------------------------------------------------------------

    def stage(self, *staged: Draft) -> None:
        """Take events; they are in the ledger after the next `commit`."""
        for draft in staged:
            self._staged.append(draft)
            self._touched.add(draft.subject)

    def log(self, run: str, points: Sequence[Point]) -> None:
        """Take points of a run; they are in the journal after the next `commit`."""
        self.points.add(run, points)
        latest = self._latest
        for point in points:
            key = (run, point[0])
            present = latest.get(key)
            if present is None or _later(point, present):
                latest[key] = point

    def commit(self) -> None:
        """Make all that was staged durable. Raises OSError or LedgerError; nothing of it is acknowledged then."""
        self.points.write()
        if self._staged:
            staged, self._staged = self._staged, []
            self._touched.clear()
            self.ledger.append(staged)
            self._catch_up()

    def settle(self, subject: str) -> None:
        """Commit if something is staged about `subject`."""
        if subject in self._touched:
            self.commit()

    def fresh(self) -> Index:
        """The index with all that was staged, logged, and appended by others."""
        self.commit()
        self._catch_up()
        self.flush_latest()
        return self.index

    def _catch_up(self) -> None:
        for event in self.index.catch_up(self.ledger):
            if _changes_lifecycle(event):
                self._active.clear()

    def flush_latest(self) -> None:
        """Put the latest values that came since the last call into the index."""
        if self._latest:
            held, self._latest = self._latest, {}
            self.index.store_latest((run, key, value, at_ms, step) for (run, _), (key, value, at_ms, step) in held.items())

    def tend(self) -> None:
        """What is to be done now and then: the index follows, and a full segment of points is folded in the background."""
        self.fresh()
        if self.points.full:
            self.points.rotate()
        if self.points.folding and (self._folder is None or not self._folder.is_alive()):
            self._folder = threading.Thread(target=self._fold, name="points to series", daemon=True)
            self._folder.start()

    def _fold(self) -> None:
        try:
            self.points.fold()
        except OSError:
            _LOG.exception("points stay in their journal: the series store cannot be written")  # tried again by the next `tend`

    # -- reading ------------------------------------------------------------------------------------------------------------------

    def require_active(self, run: str) -> None:
        """Raises Refused unless the run exists and was not deleted."""
        if run in self._active:
            return
        self.settle(run)
        self._catch_up()
        row = self.index.database.execute("SELECT lifecycle FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None:
            raise missing(f"Run with id={run} not found")
        if row[0] != "active":
            raise invalid(f"The run {run} must be in the 'active' state. Current state is {row[0]}.")
        if len(self._active) > 100_000:
            self._active.clear()
        self._active.add(run)

    def check_params(self, run: str, given: dict[str, str]) -> dict[str, str]:
        """Those of `given` that are new. A param never changes: raises Refused for one that would."""
        self.settle(run)
        number = self.index.number(run)
        known = dict(self.index.database.execute("SELECT key, value FROM params WHERE run = ?", (number,)).fetchall())
        changed = [(key, known[key], value) for key, value in given.items() if known.get(key, value) != value]
        if changed:
            shown = ", ".join(f"{{'key': {key!r}, 'old_value': {old!r}, 'new_value': {new!r}}}" for key, old, new in changed)
            raise invalid(f"Changing param values is not allowed. Params were already logged='[{shown}]' for run ID='{run}'.")
        return {key: value for key, value in given.items() if key not in known}


def _later(point: Point, present: Point) -> bool:
    """Whether a point is the latest value rather than `present`: by step, then time, then value, of which a NaN is the least."""
    if (point[3], point[2]) != (present[3], present[2]):
        return (point[3], point[2]) > (present[3], present[2])
    return point[1] > present[1] or present[1] != present[1]


def _changes_lifecycle(event: Event) -> bool:
    return event.kind in ("run.changed", "experiment.changed") and "lifecycle" in event.payload


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
