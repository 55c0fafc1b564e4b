"""Reading what was tracked, beside the server or without it: which runs match, what they logged, the points of a metric.

A server that was killed leaves points in its journal; they are read from there until the next one folds them.
Does not know: how what it finds is shown.
"""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.errors import DataError
from bedplate.core.ledger import Ledger
from bedplate.models.tracking import search
from bedplate.models.tracking.index import Index
from bedplate.models.tracking.language import parse_filter, parse_orders
from bedplate.models.tracking.points import Column, merged, read_segments, unfolded
from bedplate.models.tracking.refusal import Refused
from bedplate.models.tracking.store import FOLDER, INDEX_FILE, SERIES

ALL = 1 << 31


@dataclass(frozen=True)
class Tracked:
    """A run as it was tracked: `experiment` is its experiment's name, `kind` is "logged" or the kind of bedplate's step.

    `start_ms` and `end_ms` are milliseconds since the epoch; the latter is None while it lasts.
    """

    id: str
    name: str
    experiment: str
    kind: str
    status: str
    start_ms: int
    end_ms: int | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def duration_s(self) -> float | None:
        """Seconds from its start to its end; None while it lasts."""
        return None if self.end_ms is None else (self.end_ms - self.start_ms) / 1000


class Reading:
    """The tracked runs of one project. Close it, or use it as a context manager."""

    def __init__(self, state: Path, ledger: Ledger, project: str) -> None:
        """Open, and bring the index up to date with the ledger and with what a killed server left."""
        self._points = state / FOLDER / "points"
        self._series = state / SERIES
        self._index = Index(state / FOLDER / INDEX_FILE, project)
        self._index.catch_up(ledger)
        if not _is_served(self._points):
            self._index.store_latest(
                (run, key, value, at_ms, step) for run, points in read_segments(self._points) for key, value, at_ms, step in points
            )

    def close(self) -> None:
        """Release the index."""
        self._index.close()

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, text: str = "", orders: Sequence[str] = (), experiment: str | None = None, limit: int = ALL) -> list[Tracked]:
        """The runs that match a filter of the expression language, in the given orders, else the newest first.

        `experiment` is an experiment's name, or a job's. Raises DataError for a filter or order that cannot be read.
        """
        try:
            comparisons, parsed = parse_filter(text), parse_orders(orders)
        except Refused as refused:
            raise DataError(refused.message, fix="for example: metrics.rmse < 1 and params.lr = '0.1'") from refused
        chosen = None if experiment is None else self._experiments(experiment)
        if chosen == []:
            return []
        return self._runs(search.find(self._index, chosen, ("active",), comparisons, parsed, limit))

    def get(self, run: str) -> Tracked | None:
        """The run of an id, of the beginning of an id (4 characters or more), or the newest of a name; None when there is none."""
        execute = self._index.database.execute
        row = execute("SELECT number FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None and len(run) >= 4:
            rows = execute("SELECT number FROM runs WHERE substr(id, 1, ?) = ? LIMIT 2", (len(run), run)).fetchall()
            row = rows[0] if len(rows) == 1 else None
        if row is None:
            row = execute("SELECT number FROM runs WHERE name = ? ORDER BY start_ms DESC LIMIT 1", (run,)).fetchone()
        return self._runs([row[0]])[0] if row else None

    def experiments(self) -> list[str]:
        """The names of the experiments that are there."""
        return [name for (name,) in self._index.database.execute("SELECT name FROM experiments WHERE lifecycle = 'active' ORDER BY name")]

    def points(self, run: str, metric: str) -> list[tuple[int, int, float]]:
        """All points of one metric: (milliseconds since the epoch, step, value), ordered by step, then time."""
        column: Column | None = unfolded(self._points).get(run, {}).get(metric)
        found = merged(self._series, run, metric, [column] if column is not None else [])
        return sorted(found, key=lambda point: (point[1], point[0]))

    def _experiments(self, name: str) -> list[str]:
        rows = self._index.database.execute("SELECT id, name FROM experiments")
        return [identity for identity, known in rows if name in (known, known.partition("/")[2])]

    def _runs(self, numbers: Sequence[int]) -> list[Tracked]:
        names = dict(self._index.database.execute("SELECT id, name FROM experiments").fetchall())
        found = []
        for number, told in zip(numbers, search.runs(self._index, numbers), strict=True):
            info, data = told["info"], told["data"]
            pairs = {part: {each["key"]: each["value"] for each in data.get(part, ())} for part in ("params", "tags")}
            found.append(
                Tracked(
                    id=info["run_id"],
                    name=info["run_name"],
                    experiment=names.get(info["experiment_id"], info["experiment_id"]),
                    kind=search.kind_of(self._index, number),
                    status=info["status"],
                    start_ms=info["start_time"],
                    end_ms=info.get("end_time"),
                    params=pairs["params"],
                    metrics={each["key"]: float(each["value"]) for each in data.get("metrics", ())},
                    tags=pairs["tags"],
                )
            )
        return found


def _is_served(points: Path) -> bool:
    """Whether a live server has the journal; it puts what is logged into the index itself."""
    try:
        with (points / "lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except FileNotFoundError:
        return False
