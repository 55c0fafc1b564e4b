"""`bedplate plan`: of a project, or of a model on hardware without either.

Does not know: how a plan is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bedplate.cli.command import AsJson, ProjectFolder, parse_pairs, show
from bedplate.cli.fields import taking
from bedplate.cli.offers_view import offers_text, shadows_text
from bedplate.core.plan import Plan
from bedplate.core.spec.policy import RULES
from bedplate.flow.admitting import shadows, tables
from bedplate.flow.facts import is_ruled
from bedplate.flow.planner import plan as make_plan
from bedplate.flow.pooling import market_of, summary
from bedplate.flow.predicting import Question, answer
from bedplate.flow.workspace import Workspace, open_workspace
from bedplate.hardware.inventory import inventory

HELPS = {
    "model": "plan this model's training without a project: a name such as llama3-70b, or a config.json",
    "hardware": "with --model: accelerators of the catalog, as '64 x H100-SXM'; `bedplate catalog` lists them",
    "seq": "tokens of a sequence (4096)",
    "batch": "sequences of a step, over all devices (about 256)",
    "precision": "bf16, fp8 or fp32",
    "kernels": "eager, compiled (torch.compile), or fused (Transformer Engine, Megatron)",
    "mesh": "axes that are settled, as tensor=8,pipeline=4; the planner finds the others",
    "micro_batch": "sequences that a rank computes at a time; the planner finds it",
    "recompute": "none, selective or full; the planner finds it",
    "storage": "bandwidth of the storage for all devices together, as 2GB/s",
    "bytes_per_token": "bytes read for a token",
    "checkpoint_every": "time between checkpoints, as 10m",
    "tokens": "the tokens that the bill is for, as 15T",
    "price": "USD for a device hour; else the catalog's estimate",
    "power_limit": "watts of a device, where it is set below its design power",
}


@dataclass(frozen=True)
class Asked(Question):
    """A question of either kind; `at` is for that of a project."""

    at: str = ""


@taking(Asked, {**HELPS, "at": "a snapshot of `data snapshot`: every table that it pins as it was then"}, optional=True)
def plan(
    targets: Annotated[list[str] | None, typer.Argument(help="datasets, features, jobs, models or endpoints; none: all")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a parameter, as NAME=VALUE")] = None,
    force: Annotated[list[str] | None, typer.Option("--force", help="a step to run though it is up to date")] = None,
    without: Annotated[list[str] | None, typer.Option(help="what a rule of `policies` costs: the same without it, as residency")] = None,
    on: Annotated[str, typer.Option(help="the pool of pools.yaml in which jobs would run")] = "",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
    **asked: Any,
) -> None:
    """What would run, where and why. Starts nothing. With --model and --hardware: how to train that model on that hardware, how fast and
    at what cost; needs no project and touches no hardware.

    Example: bedplate plan train_delay --set lr=3e-4

    Example: bedplate plan --model llama3-70b --hardware "64 x H100-SXM" --seq 8192 --batch 512
    """
    if asked["model"] or asked["hardware"]:
        if not (asked["model"] and asked["hardware"]):
            raise typer.BadParameter("--model and --hardware go together")
        report = answer(Asked(**asked))
        show(report.to_json(), report.text(), as_json)
        return
    with open_workspace(project, parse_pairs(overrides or [], "--set")) as workspace:
        planned = make_plan(workspace, targets or [], force or [], on, asked["at"])
        values, text = planned.to_json(), planned.text()
        if is_ruled(workspace):
            offered, below = _offered(workspace, planned, without or [])
            values, text = {**values, **offered}, f"{text}\n\n{below}"
        show(values, text, as_json)


def _offered(workspace: Workspace, planned: Plan, without: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The tables of offers, and what the rules in `without` cost."""
    if not set(without) <= set(RULES):
        raise typer.BadParameter(f"--without takes a rule of `policies`: {', '.join(RULES)}; not {', '.join(set(without) - set(RULES))}")
    machine = inventory([workspace.project.root])
    decisions = tables(workspace, planned, machine)
    values: dict[str, Any] = {"offers": summary(decisions)}
    text = offers_text(decisions)
    if without:
        found = shadows(decisions, tables(workspace, planned, machine, without))
        values["shadow"] = [asdict(each) for each in found]
        text += f"\n\n{shadows_text(found, without, market_of(workspace).file.currency)}"
    return values, text
