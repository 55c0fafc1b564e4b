"""Rent or buy, and what leaving costs, for the pools that `pools.yaml` declares, from what the ledger says was used.

Does not know: the formulas (`policy.ownership`), or whether two machines do the same work in the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.core.errors import NotFound
from bedplate.core.money import micros
from bedplate.core.pools_file import GB, DeclaredPool
from bedplate.flow.billing import WHOLE, uses_of
from bedplate.flow.pooling import market_of
from bedplate.flow.workspace import Workspace
from bedplate.policy.ownership import Machine, Verdict, leaving_micros, rent_or_buy


@dataclass(frozen=True)
class Comparison:
    """One's own pool beside a rented one, by the machine, and what it costs to leave the rented one, in micro-units."""

    own: str
    rented: str
    verdict: Verdict
    leaving_micros: int


def comparisons(workspace: Workspace) -> list[Comparison]:
    """Every pool that is bought beside every one that is rented. Raises NotFound without one of each."""
    pools = market_of(workspace).file.pools
    bought = {name: pool for name, pool in pools.items() if pool.own is not None}
    rented = {name: pool for name, pool in pools.items() if pool.price is not None and pool.price.on_demand is not None}
    if not (bought and rented):
        fix = "declare one pool with `own` and one with `price` in pools.yaml; neither needs to exist yet"
        raise NotFound("there is nothing to compare", value=", ".join(pools) or "no pools", fix=fix)
    stored_gb = sum(path.stat().st_size for path in workspace.state.rglob("*") if path.is_file()) / GB
    return [
        Comparison(own, other, _verdict(workspace, bought[own], rented[other], {own, other}), _leaving(workspace, other, stored_gb))
        for own in bought
        for other in rented
    ]


def _verdict(workspace: Workspace, own: DeclaredPool, rented: DeclaredPool, names: set[str]) -> Verdict:
    assert own.own is not None and rented.price is not None
    machine = Machine(
        capital_micros=micros(own.own.capital),
        power_hour_micros=micros(own.watts / 1000 * own.pue * own.own.kwh_price),
        months=max(1, round(own.own.years * 12)),
    )
    return rent_or_buy(machine, micros(rented.price.on_demand or 0), _used(workspace, names))


def _used(workspace: Workspace, pools: set[str]) -> float:
    """The part of a machine's time that was busy on either pool, since the first use of it."""
    declared = market_of(workspace).file.pools
    uses = [use for use in uses_of(workspace) if use.pool in pools]
    if not uses:
        return 0.0
    span_ms = max(1, round(workspace.clock.now() * 1000) - min(use.start_ms for use in uses))
    machines = max((pool.capacity.machines for pool in (declared[name] for name in pools) if pool.capacity), default=1)
    busy = sum((use.end_ms - use.start_ms) * use.share for use in uses) / WHOLE
    return min(1.0, busy * machines / span_ms / machines)


def _leaving(workspace: Workspace, rented: str, stored_gb: float) -> int:
    pool = market_of(workspace).file.pools[rented]
    now_s = workspace.clock.now()
    assert pool.price is not None
    unsaved = [now_s - run.attempts[-1].started_at_s for run in workspace.records.live() if _runs_in(run.made, rented) and run.attempts]
    return leaving_micros(stored_gb, micros(pool.egress_gb), sum(unsaved), micros(pool.price.on_demand or 0))


def _runs_in(made: object, pool: str) -> bool:
    return isinstance(made, dict) and (made.get("placement") or {}).get("pool") == pool
