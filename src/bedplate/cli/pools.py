"""`bedplate pools`: where steps may run, and what each place costs.

Does not know: how a place is chosen.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.money import money
from bedplate.core.pool import Offer
from bedplate.flow.pooling import market_of, offers
from bedplate.flow.tables import LAUNCHERS
from bedplate.flow.workspace import open_workspace
from bedplate.hardware.inventory import inventory

HEADER = ("pool", "engine", "terms", "machines", "each", "an hour", "jurisdiction", "operator", "g CO2/kWh", "price of")


def pools(project: ProjectFolder = Path(), as_json: AsJson = False) -> None:
    """This machine and the pools of `pools.yaml`: what each has, costs and emits, and whose law it is under.

    Example: bedplate pools --json
    """
    with open_workspace(project) as workspace:
        machine = inventory([workspace.project.root])
        found = offers(market_of(workspace), machine, workspace.clock.now())
        values = {"machine": machine.to_json(), "offers": [asdict(offer) for offer in found]}
        show(values, table(HEADER, [_row(offer) for offer in found]), as_json)


def _row(offer: Offer) -> tuple[str, ...]:
    has = f"{offer.cores:g} cores, {offer.memory_bytes / 1e9:.0f} GB" + (f", {offer.devices} {offer.device_model}" if offer.devices else "")
    home = f" ({offer.home.operator_home})" if offer.home.operator_home else ""
    grams = f"{offer.carbon_g_kwh[0]:g}" if offer.carbon_g_kwh else "unknown"
    engine = offer.engine if offer.engine in LAUNCHERS else f"{offer.engine} (not there yet)"
    priced = f"{offer.priced_at}, {offer.source}" if offer.source else "-"
    place = offer.home.jurisdiction or "unknown", (offer.home.operator or "unknown") + home
    return offer.pool, engine, offer.terms, str(offer.machines), has, money(offer.hour_micros, offer.currency), *place, grams, priced
