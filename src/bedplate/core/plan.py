"""The plan: steps in order, each with its verdict, its placement and the reasons. Pure data: printable, diffable, golden-tested.

Does not know: how facts are gathered (`flow.facts`) or how a step is executed (`flow.steps`).
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bedplate.core.clock import human_duration
from bedplate.core.pool import Placement
from bedplate.core.spec import Resources

StepKind = Literal["job", "ingest", "transform", "feature", "training_set", "train", "model", "gate", "online", "endpoint"]
Verdict = Literal["run", "fresh", "waits"]


@dataclass(frozen=True)
class Step:
    """One unit of a plan.

    `needs` are the steps whose outputs it reads; `spec` is what it does, as JSON, resources and pool left out; `entries` are the
    files of user code that it runs and `globs` more files that its result depends on; `sources` are outside inputs (files and streams)
    that no step writes. With `reads`, only those outputs of its needs are its inputs.
    """

    name: str
    kind: StepKind
    needs: tuple[str, ...]
    spec: Mapping[str, Any]
    entries: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class PlannedStep:
    """A step with what the passes said of it.

    `run`: it would be executed; `fresh`: a version with this fingerprint exists; `waits`: it depends on a step that would run, and will
    be judged when that step's output is known. `estimate_s` is the length of its last run, None when it never ran. `training` is the mesh
    that the planner chose, with its reasons and what it predicts.
    """

    step: Step
    verdict: Verdict = "run"
    why: str = ""
    fingerprint: str | None = None
    placement: Placement | None = None
    estimate_s: float | None = None
    made_by: str | None = None
    training: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """Steps in an order in which each comes after what it needs."""

    project: str
    targets: tuple[str, ...]
    steps: tuple[PlannedStep, ...] = field(default_factory=tuple)

    def step(self, name: str) -> PlannedStep:
        """The planned step of that name. Raises KeyError."""
        return {planned.step.name: planned for planned in self.steps}[name]

    @property
    def to_run(self) -> tuple[PlannedStep, ...]:
        """The steps that would or may run."""
        return tuple(planned for planned in self.steps if planned.verdict != "fresh")

    @property
    def estimate_s(self) -> float | None:
        """The sum of the known estimates of the steps to run; None when none is known. An estimate, not a promise: steps may overlap."""
        known = [planned.estimate_s for planned in self.to_run if planned.estimate_s is not None]
        return sum(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        steps = [
            {**asdict(planned), "step": {**asdict(planned.step), "resources": planned.step.resources.model_dump()}}
            for planned in self.steps
        ]
        return {"project": self.project, "targets": list(self.targets), "steps": steps, "estimate_s": self.estimate_s}

    def text(self) -> str:
        """The plan as a table in plain text."""
        rows = [("step", "kind", "verdict", "where", "last took", "why")]
        for planned in self.steps:
            place = planned.placement
            where = "" if place is None else place.pool + (f" x{place.world_size}" if place.world_size > 1 else "")
            took = human_duration(planned.estimate_s) if planned.estimate_s is not None else "-"
            rows.append((planned.step.name, planned.step.kind, planned.verdict, where, took, planned.why))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip() for row in rows]
        counts = {verdict: sum(planned.verdict == verdict for planned in self.steps) for verdict in ("run", "waits", "fresh")}
        total = f"{counts['run']} to run, {counts['waits']} wait for them, {counts['fresh']} up to date"
        estimate = self.estimate_s
        return "\n".join(
            [
                *lines,
                *(_training_line(planned) for planned in self.steps if planned.training),
                *(_transform_line(planned) for planned in self.to_run if planned.step.kind == "transform"),
                "",
                total + (f"; about {human_duration(estimate)} by the last runs (an estimate)" if estimate else ""),
            ]
        )

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text())}</pre>"


def _transform_line(planned: PlannedStep) -> str:
    why = planned.step.spec["why_full"]
    return f"{planned.step.name}: " + (f"full, as {why}" if why else "incremental: only rows that came since are read")


def _training_line(planned: PlannedStep) -> str:
    """The mesh of a step and why, below the table."""
    assert planned.training is not None
    axes = ", ".join(f"{name} {size}" for name, size in planned.training["mesh"].items())
    others = [f"  not {text}: {why}" for text, why in planned.training.get("others", {}).items()]
    return "\n".join([f"{planned.step.name}: mesh {axes}; " + "; ".join(planned.training["why"]), *others])
