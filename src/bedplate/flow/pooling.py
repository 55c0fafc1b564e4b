"""Pools as placement sees them: `pools.yaml`, this machine, what was spent; and for each step the table of offers under the rules.

Reads only.
Does not know: how offers are weighed (`cluster.offers`) or judged (`policy.rules`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bedplate.cluster.offers import Decision, choose, price, shifted
from bedplate.cluster.place import ELSEWHERE
from bedplate.core.clock import duration_s
from bedplate.core.errors import NotFound, Unavailable, nearest
from bedplate.core.loading import load
from bedplate.core.money import micros
from bedplate.core.plan import PlannedStep, Step
from bedplate.core.pool import Accelerator, Asked, Home, Inventory, Offer, Pool
from bedplate.core.pools_file import GB, Capacity, DeclaredPool, Engine, PoolsFile, carbon_of, offers_of, read_pools
from bedplate.core.project import find_pools
from bedplate.core.protocols import Launcher
from bedplate.core.spec import Policies, ProjectSpec
from bedplate.flow.tables import LAUNCHERS
from bedplate.flow.workspace import Workspace
from bedplate.policy.residency import travel
from bedplate.policy.rules import judge

LOCAL: Engine = "local"


@dataclass(frozen=True)
class Market:
    """What `pools.yaml` declares (an empty file where there is none), its folder, and the name under which this machine is in it."""

    file: PoolsFile
    folder: Path
    here: str

    @property
    def own_home(self) -> Home:
        """Where this machine is, by law; unknown where no pool says so."""
        return self.file.pools[self.here].home if self.here in self.file.pools else Home()


def market_of(workspace: Workspace) -> Market:
    """The pools that this project may use. Raises SpecError for a wrong `pools.yaml`."""
    path = find_pools(workspace.project.root, workspace.settings.home)
    file = read_pools(path) if path else PoolsFile()
    here = next((name for name, pool in file.pools.items() if pool.engine == LOCAL), LOCAL)
    return Market(file, path.parent if path else workspace.project.root, here)


def pools_of(workspace: Workspace, machine: Inventory) -> tuple[Pool, ...]:
    """This machine first, then the declared pools in their order, each with machines as it declares them."""
    market = market_of(workspace)
    others = [(name, pool) for name, pool in market.file.pools.items() if pool.engine != LOCAL]
    return (Pool(market.here, LOCAL, (machine,)), *(Pool(name, pool.engine, _machines(name, pool)) for name, pool in others))


def launcher_of(workspace: Workspace, name: str) -> Launcher:
    """The launcher of a pool that `pools.yaml` declares. Raises NotFound for one that it does not, or not any more."""
    market = market_of(workspace)
    pool = market.file.pools.get(name)
    if pool is None:
        raise NotFound("a run is in a pool that pools.yaml does not declare", value=name, fix="declare it again, until the run has ended")
    launcher: Launcher = load(LAUNCHERS, pool.engine, "engine")(pool, market.folder)
    return launcher


def check_pool(workspace: Workspace, name: str) -> None:
    """Raises NotFound for a pool that is not declared, and Unavailable for one that nothing here can launch in."""
    market = market_of(workspace)
    names = [market.here, *market.file.pools]
    if name not in names:
        raise NotFound("no such pool", value=name, fix=nearest(name, names))
    engine = market.file.pools[name].engine if name != market.here else LOCAL
    if engine not in LAUNCHERS:
        raise Unavailable(f"the engine {engine} is not there yet", value=name, fix=f"engines here: {', '.join(sorted(LAUNCHERS))}")
    if engine in ELSEWHERE:
        launcher_of(workspace, name)


def _machines(name: str, pool: DeclaredPool) -> tuple[Inventory, ...]:
    capacity = pool.capacity or Capacity()
    devices = tuple(Accelerator(index, capacity.accelerator, 0, "") for index in range(capacity.accelerators))
    one = Inventory(name, "", "", int(capacity.cores), int(capacity.memory_gb * GB), (), devices)
    return (one,) * capacity.machines


def offers(market: Market, machine: Inventory, now_s: float) -> tuple[Offer, ...]:
    """All offers of all pools, the grid's hours counted from now on, egress as it costs from this machine."""
    declared = dict(market.file.pools)
    declared.setdefault(market.here, DeclaredPool(engine=LOCAL))
    leaving = micros(declared[market.here].egress_gb)
    hour = datetime.fromtimestamp(now_s, tz=UTC).hour
    found: list[Offer] = []
    for name, pool in sorted(declared.items(), key=lambda item: item[0] != market.here):
        kinds = sorted({device.model for device in machine.accelerators})
        measured = Capacity(
            cores=machine.cores, memory_gb=machine.memory_bytes / GB, accelerators=len(machine.accelerators), accelerator=", ".join(kinds)
        )
        capacity = measured if pool.engine == LOCAL and pool.capacity is None else pool.capacity or Capacity()
        grams = carbon_of(pool, market.folder)
        turned = grams[hour:] + grams[:hour] if len(grams) == 24 else grams
        for offer in offers_of(name, pool, capacity, market.file.currency, turned):
            found.append(replace(offer, egress_micros_gb=0 if name == market.here else leaving))
    return tuple(found)


def labels_of(spec: ProjectSpec, steps: Sequence[Step]) -> dict[str, frozenset[str]]:
    """The residency labels of all that each step reads and makes."""
    own = {name: frozenset([dataset.residency]) for name, dataset in spec.datasets.items() if dataset.residency}
    return travel({step.name: step.needs for step in steps}, own)


def asked_of(workspace: Workspace, planned: PlannedStep, labels: frozenset[str], market: Market) -> Asked:
    """What a step asks of a place."""
    step, spec = planned.step, workspace.project.spec
    resources = step.resources
    deadline = spec.policies.deadlines.get(step.name)
    tiers = spec.jobs[step.name].checkpoint.tiers if step.name in spec.jobs else ()
    return Asked(
        step=step.name,
        workers=resources.workers,
        cpus=resources.cpus,
        memory_bytes=int(resources.memory_gb * GB),
        devices=resources.accelerator_range()[0],
        device_type=resources.accelerator_type,
        work_s=planned.estimate_s,
        deadline_s=duration_s(deadline) if deadline else None,
        data_gb=_source_bytes(workspace, step) / GB,
        data_in=market.here,
        labels=labels,
        stores=tuple((tier, _store_home(tier, market)) for tier in tiers if "://" in tier),
    )


def decide(
    workspace: Workspace,
    planned: PlannedStep,
    labels: frozenset[str],
    market: Market,
    found: Sequence[Offer],
    left_micros: int | None = None,
    without: Collection[str] = (),
) -> Decision:
    """The table of offers for one step under the project's rules, those in `without` left out."""
    policies: Policies = workspace.project.spec.policies
    asked = asked_of(workspace, planned, labels, market)
    priced = price(asked, found)
    moved = shifted(asked, priced) if policies.carbon is not None else priced
    return choose(asked, judge(asked, moved, policies, left_micros, without), micros(policies.waiting))


def _source_bytes(workspace: Workspace, step: Step) -> int:
    paths = (workspace.project.root / source for source in step.sources if "://" not in source)
    return sum(path.stat().st_size for path in paths if path.is_file())


def _store_home(tier: str, market: Market) -> Home:
    """Where a store is, by the longest declared prefix of its URL; a file is on this machine; all else is unknown."""
    found = [prefix for prefix in market.file.stores if tier == prefix or tier.startswith(prefix.rstrip("/") + "/")]
    if found:
        return market.file.stores[max(found, key=len)].home
    return market.own_home if tier.startswith("file://") else Home()


def summary(decisions: Mapping[str, Decision]) -> dict[str, object]:
    """The tables as JSON: costs in micro-units, times in seconds, emissions in grams."""
    return {
        name: {
            "chosen": decision.chosen.offer.pool if decision.chosen else None,
            "failover": [each.offer.pool for each in decision.failover],
            "offers": [
                {
                    "pool": each.offer.pool,
                    "engine": each.offer.engine,
                    "terms": each.offer.terms,
                    "machines": each.machines,
                    "cost_micros": each.total_micros,
                    "egress_micros": each.egress_micros,
                    "currency": each.offer.currency,
                    "starts_s": each.starts_s,
                    "ends_s": each.ends_s,
                    "carbon_g": each.carbon_g,
                    "price_source": each.offer.source,
                    "priced_at": each.offer.priced_at,
                    "refused": [{"rule": rule, "why": why} for rule, why in each.refused],
                    "why": word,
                }
                for each, word in decision.shown
            ],
        }
        for name, decision in decisions.items()
    }
