"""What a pipeline asks of a project: the plan as a comment, a mark of all aliases, and the way back to it.

Does not know: any provider, or what a pipeline runs in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bedplate.core.clock import human_duration
from bedplate.core.errors import NotFound
from bedplate.core.money import money
from bedplate.core.plan import Plan
from bedplate.flow.admitting import tables
from bedplate.flow.facts import is_ruled
from bedplate.flow.moving import rollback
from bedplate.flow.planner import plan
from bedplate.flow.pooling import market_of
from bedplate.flow.workspace import Workspace
from bedplate.hardware.inventory import inventory
from bedplate.models.ci.stages import Pipeline


@dataclass(frozen=True)
class Returned:
    """An alias on the way back: the `model`, the version it points to now, and the one it came from; `why` it stayed, if it did."""

    model: str
    version: str | None
    left: str | None
    why: str = ""


def pipeline_of(workspace: Workspace, branch: str, pool: str, state: str) -> Pipeline:
    """What a pipeline of this project does: every job that trains a model, every model, every endpoint."""
    spec = workspace.project.spec
    jobs = tuple(dict.fromkeys(model.from_ for model in spec.trained.values())) or tuple(spec.jobs)
    return Pipeline(spec.project, jobs, tuple(spec.trained), tuple(spec.endpoints), branch, pool, state)


def mark(workspace: Workspace) -> dict[str, int | None]:
    """The version number behind the alias of every model, None where there is none."""
    models = workspace.project.spec.trained
    return {name: workspace.records.alias(name, model.promote.to) for name, model in models.items()}


def back(workspace: Workspace, before: Mapping[str, int | None], reason: str) -> list[Returned]:
    """Every alias as `before` says, each by a recorded decision with this reason. One that pointed to nothing stays where it is."""
    found = []
    for name, number in before.items():
        present = mark(workspace).get(name)
        if present == number:
            continue
        left = f"{name}@{present}" if present else None
        if number is None:
            found.append(Returned(name, left, left, "there was no version before: it stays"))
            continue
        try:
            version, _ = rollback(workspace, name, reason, number)
            found.append(Returned(name, version.ref, left))
        except NotFound as error:
            found.append(Returned(name, left, left, error.one_line()))
    return found


def comment(workspace: Workspace) -> str:
    """The plan, what it takes, and each model's newest grades against production, as Markdown."""
    planned = plan(workspace)
    priced = [_price(workspace, planned)] if is_ruled(workspace) and planned.to_run else []
    parts = [f"### bedplate plan: {_cell(planned.project)}", *_steps(planned), *priced, *_grades(workspace)]
    return "\n\n".join(parts) + "\n"


def _steps(planned: Plan) -> list[str]:
    rows = [
        (
            each.step.name,
            each.step.kind,
            each.verdict,
            human_duration(each.estimate_s) if each.estimate_s is not None else "unknown",
            each.why,
        )
        for each in planned.to_run
    ]
    fresh = len(planned.steps) - len(rows)
    if not rows:
        return [f"Nothing would run: all {fresh} steps are up to date."]
    known = [each.estimate_s for each in planned.to_run if each.estimate_s is not None]
    took = f"about {human_duration(sum(known))} by the last runs" if known else "no step of them ran before"
    unknown = len(rows) - len(known)
    cost = f"{len(rows)} steps would run or wait, {fresh} are up to date. {took[0].upper()}{took[1:]}" + (
        f", and {unknown} that never ran." if known and unknown else "."
    )
    return [_table(("step", "kind", "verdict", "last took", "why"), rows), cost]


def _price(workspace: Workspace, planned: Plan) -> str:
    """What the steps would cost where the rules let them run, as far as it is known how long they take."""
    decisions = tables(workspace, planned, inventory([workspace.project.root]))
    costs = {name: each.chosen.total_micros for name, each in decisions.items() if each.chosen is not None}
    known = [cost for cost in costs.values() if cost is not None]
    currency = market_of(workspace).file.currency
    text = f"Cost: {money(sum(known), currency)}" if known else "Cost: unknown"
    unknown, nowhere = len(costs) - len(known), sorted(decisions.keys() - costs.keys())
    text += f", and that of {unknown} that never ran" if known and unknown else ""
    return f"{text}." + (f" **May run nowhere:** {_cell(', '.join(nowhere))}." if nowhere else "")


def _grades(workspace: Workspace) -> list[str]:
    parts = []
    for name in workspace.project.spec.trained:
        evaluation = workspace.records.evaluations.get(name)
        if evaluation is None:
            parts.append(f"#### {_cell(name)}\n\nNo version was graded yet.")
            continue
        candidate, before = evaluation["metrics"], evaluation["production_metrics"] or {}
        header = ("metric", evaluation["candidate"], evaluation["production"] or "no production")
        rows = [(metric, _number(candidate.get(metric)), _number(before.get(metric))) for metric in sorted({*candidate, *before})]
        why = _cell(evaluation["decision"]["why"])
        parts.append(f"#### {_cell(name)}\n\n{_table(header, rows)}\n\nOn {_cell(evaluation['pinned_set'])}: {why}.")
    return parts


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """One line with nothing in it that ends a cell, opens a tag or calls somebody."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;").replace("@", "@\u2060")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
