"""Comparing runs: what they were given and what came out, where they differ, and the curves of their metrics.

Does not know: how a comparison is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.core.errors import NotFound, nearest
from bedplate.flow.workspace import Workspace
from bedplate.models.tracking.reading import Reading, Tracked

MOST_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One param or metric of all the runs: `values` has an entry a run, None where it has none; `differs` if they are not all equal."""

    kind: str
    name: str
    values: tuple[str | float | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs have not all the same."""
        return len({str(value) for value in self.values}) > 1


@dataclass(frozen=True)
class Comparison:
    """Some runs side by side. `curves` holds a metric's points as (step, value), an entry a run."""

    runs: tuple[Tracked, ...]
    lines: tuple[Line, ...]
    curves: dict[str, tuple[tuple[tuple[int, float], ...], ...]]


def reading(workspace: Workspace) -> Reading:
    """What was tracked in a project."""
    return Reading(workspace.state, workspace.ledger, workspace.project.name)


def compare(workspace: Workspace, names: Sequence[str]) -> Comparison:
    """Runs by id, by the beginning of an id, by name, or the newest of a job. Raises NotFound."""
    with reading(workspace) as tracked:
        found = tuple(_found(workspace, tracked, name) for name in names)
        lines = [
            Line(kind, name, tuple(getattr(run, kind).get(name) for run in found))
            for kind in ("params", "metrics")
            for name in sorted({name for run in found for name in getattr(run, kind)})
        ]
        metrics = sorted({name for run in found for name in run.metrics})
        curves = {name: tuple(_curve(tracked, run.id, name) for run in found) for name in metrics}
        return Comparison(found, tuple(lines), curves)


def _found(workspace: Workspace, tracked: Reading, name: str) -> Tracked:
    run = tracked.get(name)
    if run is None:
        of_step = workspace.records.of_step(name)
        run = tracked.get(of_step[-1].id) if of_step else None
    if run is None:
        known = [each.id for each in tracked.find(limit=200)] + list(workspace.project.spec.jobs)
        raise NotFound("no such run", value=name, fix=nearest(name, known))
    return run


def _curve(tracked: Reading, run: str, metric: str) -> tuple[tuple[int, float], ...]:
    points = [(step, value) for _, step, value in tracked.points(run, metric)]
    every = max(1, -(-len(points) // MOST_POINTS))
    kept = points[::every]
    return tuple(kept if not points or kept[-1] == points[-1] else [*kept, points[-1]])
