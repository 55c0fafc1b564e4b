"""`bedplate cost`: the bill.

Does not know: how it is divided.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.clock import human_duration
from bedplate.core.money import money
from bedplate.flow.billing import bill_of
from bedplate.flow.owning import Comparison, comparisons
from bedplate.flow.pooling import market_of
from bedplate.flow.workspace import open_workspace
from bedplate.policy.bill import Bill, Line, lines_of

Axis = Literal["run", "project", "model", "user", "day", "pool"]
HEADER = ("charged", "lost work", "busy", "kWh", "g CO2")
BESIDE = ("own", "rented", "used", "own is cheaper from", "pays back after", "renting", "owning", "leaving costs")


def cost(
    by: Annotated[Axis, typer.Option(help="what the lines are: run, project, model, user, day or pool")] = "run",
    rent_or_buy: Annotated[bool, typer.Option("--rent-or-buy", help="from which use on hardware of one's own beats renting")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What was spent: money, energy, CO2 and lost work. Charges, what stood idle and what is shared add up to the bill to the cent.

    Prices, watts and the grid's carbon come from pools.yaml; energy is an estimate, marked ~, where no counter was read.

    Example: bedplate cost --by model
    """
    with open_workspace(project) as workspace:
        currency = market_of(workspace).file.currency
        if rent_or_buy:
            found = comparisons(workspace)
            show([asdict(each) for each in found], table(BESIDE, [_beside(each, currency) for each in found]), as_json)
            return
        kept = bill_of(workspace)
        show(_values(kept, by, currency), _text(kept, by, currency), as_json)


def _values(kept: Bill, by: Axis, currency: str) -> dict[str, Any]:
    totals = {"total": kept.total_micros, "charged": kept.charged_micros, "idle": kept.idle_micros, "shared": kept.shared_micros}
    lines = {name: asdict(line) for name, line in lines_of(kept, by)}
    return {"currency": currency, **{f"{name}_micros": value for name, value in totals.items()}, "by": by, "lines": lines}


def _text(kept: Bill, by: Axis, currency: str) -> str:
    rows = [(name, *_row(line, currency)) for name, line in lines_of(kept, by)]
    parts = (("charged", kept.charged_micros), ("idle", kept.idle_micros), ("shared", kept.shared_micros), ("the bill", kept.total_micros))
    totals = table(("", ""), [(name, money(value, currency)) for name, value in parts])
    return f"{table((by, *HEADER), rows) if rows else 'nothing ran yet'}\n{totals}"


def _row(line: Line, currency: str) -> tuple[str, ...]:
    about = "~" if line.estimated else ""
    carbon = "unknown" if line.carbon_g is None else f"{about}{line.carbon_g:.1f}"
    charged, lost = money(line.micros, currency), money(line.lost_micros, currency)
    return charged, lost, human_duration(line.busy_s), f"{about}{line.kwh:.4f}", carbon


def _beside(each: Comparison, currency: str) -> tuple[str, ...]:
    found = each.verdict
    even = "never" if found.break_even is None else f"{found.break_even:.0%} used"
    months = "never in its life" if found.months is None else f"{found.months} months"
    totals = money(found.rent_micros, currency), money(found.own_micros, currency)
    return each.own, each.rented, f"{found.used:.1%}", even, months, *totals, money(each.leaving_micros, currency)
