"""What was spent, from the ledger: attempts as uses of pools, pools with their rates, the bill, and runs that a budget stops.

Energy is an estimate, of declared watts or of the catalog's design power: no engine here reads a counter yet.
Does not know: how a bill is divided (`policy.bill`), or how a run stops.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bedplate.core.event import Draft
from bedplate.core.money import micros
from bedplate.core.pools_file import Capacity, DeclaredPool, own_hour_micros
from bedplate.core.record import AttemptRecord, Records, RunRecord
from bedplate.core.spec import ProjectSpec
from bedplate.flow.pooling import Market, market_of
from bedplate.flow.workspace import Workspace
from bedplate.hardware.catalog.reader import matching
from bedplate.policy.bill import Bill, Rate, Use, bill
from bedplate.policy.budget import Budget, Spending, must_stop, parse_budget, spent_micros

WHOLE = 1_000_000
CORE_W = 10.0  # of a busy core of a server: design power over cores of current server processors is 3 to 15 W
MONTH_S = 730.5 * 3600


def bill_of(workspace: Workspace) -> Bill:
    """The bill of all that the ledger knows."""
    market, uses = market_of(workspace), uses_of(workspace)
    rates = {name: Rate(*_rate(pool)) for name, pool in market.file.pools.items()}
    span_s = (max(use.end_ms for use in uses) - min(use.start_ms for use in uses)) / 1000 if uses else 0.0
    return bill(uses, rates, micros(market.file.shared * span_s / MONTH_S))


def uses_of(workspace: Workspace) -> list[Use]:
    """Every attempt that the ledger knows as a use of its pool; one that still runs ends now."""
    market, told, models = market_of(workspace), _told(workspace), model_of_job(workspace.project.spec)
    runs = [run for run in workspace.records.runs.values() if run.attempts]
    return [_use(workspace, market, run, each, told, models) for run in runs for each in run.attempts]


def budget_left(workspace: Workspace, market: Market) -> int | None:
    """What the budget's present period still has, in micro-units; below 0 when overspent, None without a budget."""
    budget = _budget(workspace)
    if budget is None:
        return None
    now_s = workspace.clock.now()
    return budget.limit_micros - spent_micros(budget, _spendings(workspace.records, market), now_s)


def is_spent(workspace: Workspace) -> bool:
    """Whether the budget has nothing left for the present period; never without a budget."""
    left = budget_left(workspace, market_of(workspace))
    return left is not None and left <= 0


def stops(workspace: Workspace) -> list[Draft]:
    """Requests to stop for the live runs that cost money, once the budget is spent; each writes a checkpoint first."""
    budget = _budget(workspace)
    if budget is None:
        return []
    market = market_of(workspace)
    if not must_stop(budget, _spendings(workspace.records, market), workspace.clock.now()):
        return []
    payload = {"how": "stop", "why": f"the budget is spent: {workspace.project.spec.policies.budget}"}
    live = [run for run in workspace.records.live() if run.state.stopping == "no" and _hour_micros(run, market)]
    return [Draft("stop.requested", run.id, payload) for run in live]


def model_of_job(spec: ProjectSpec) -> dict[str, str]:
    """The model that each job trains."""
    return {model.from_: name for name, model in spec.trained.items()}


def share_of(run: RunRecord, capacity: Capacity) -> int:
    """The part of a pool that a run holds, in millionths: by cores, or by accelerators where that is more."""
    placement, resources = run.made.get("placement") or {}, run.made.get("resources") or {}
    workers = int(placement.get("world_size") or 1)
    cores = workers * float(resources.get("cpus") or 1.0) / (capacity.machines * capacity.cores)
    devices = len(placement.get("accelerators") or ()) / (capacity.machines * capacity.accelerators) if capacity.accelerators else 0.0
    return max(1, min(WHOLE, round(max(cores, devices) * WHOLE)))


def _capacity(run: RunRecord, pool: DeclaredPool | None) -> Capacity:
    if pool is not None and pool.capacity is not None:
        return pool.capacity
    hardware = run.made.get("hardware") or {}
    return Capacity(cores=float(hardware.get("cores") or 1), accelerators=len(hardware.get("devices") or ()))


def _pool(run: RunRecord) -> str:
    return str((run.made.get("placement") or {}).get("pool") or "local")


def _rate(pool: DeclaredPool) -> tuple[int, bool]:
    """What all machines of a pool cost in an hour, and whether they are held when nothing runs."""
    machines = pool.capacity.machines if pool.capacity else 1
    if pool.own is not None:
        return own_hour_micros(pool.own, pool.watts, pool.pue) * machines, True
    if pool.price is None:
        return 0, True
    hourly = pool.price.on_demand if pool.price.on_demand is not None else pool.price.spot
    return micros(hourly or 0) * machines, False


def _hour_micros(run: RunRecord, market: Market) -> int:
    pool = market.file.pools.get(_pool(run))
    return 0 if pool is None else -(-_rate(pool)[0] * share_of(run, _capacity(run, pool)) // WHOLE)


def _budget(workspace: Workspace) -> Budget | None:
    text = workspace.project.spec.policies.budget
    return parse_budget(text) if text else None


def _spendings(records: Records, market: Market) -> Iterator[Spending]:
    for run in records.runs.values():
        hour = _hour_micros(run, market) if run.attempts else 0
        if hour:
            yield from (Spending(each.started_at_s, each.ended_at_s, hour) for each in run.attempts)


@dataclass(frozen=True)
class _Told:
    """Who asked for each launch, and when each attempt committed its checkpoints."""

    users: Mapping[str, str]
    checkpoints: Mapping[tuple[str, int], Sequence[float]]


def _told(workspace: Workspace) -> _Told:
    users: dict[str, str] = {}
    checkpoints: dict[tuple[str, int], list[float]] = defaultdict(list)
    for event in workspace.ledger.read():
        if event.kind == "launch.requested":
            users[event.subject] = str(event.payload.get("by", ""))
        elif event.kind == "checkpoint.committed":
            checkpoints[event.subject, int(event.payload.get("token", 0))].append(event.at_s)
    return _Told(users, checkpoints)


def _use(workspace: Workspace, market: Market, run: RunRecord, attempt: AttemptRecord, told: _Told, models: Mapping[str, str]) -> Use:
    pool = market.file.pools.get(_pool(run))
    capacity = _capacity(run, pool)
    share = share_of(run, capacity)
    end_s = attempt.ended_at_s if attempt.ended_at_s is not None else workspace.clock.now()
    kept_s = max(told.checkpoints.get((run.id, attempt.token), ()), default=attempt.started_at_s)
    lost_s = max(0.0, end_s - kept_s) if attempt.status == "failed" else 0.0
    return Use(
        run=run.id,
        project=workspace.project.name,
        user=told.users.get(run.launch, ""),
        model=models.get(run.step.partition(".")[0], run.step if run.step in workspace.project.spec.models else ""),
        pool=_pool(run),
        start_ms=round(attempt.started_at_s * 1000),
        end_ms=max(round(attempt.started_at_s * 1000), round(end_s * 1000)),
        share=share,
        lost_ms=round(lost_s * 1000),
        watts=_watts(run, pool, capacity, share),
        g_kwh=float(pool.carbon) if pool is not None and isinstance(pool.carbon, float | int) else None,
    )


def _watts(run: RunRecord, pool: DeclaredPool | None, capacity: Capacity, share: int) -> float:
    """Watts of a run at work, PUE included: its share of what the pool declares, else the design power of its devices and cores."""
    if pool is not None and pool.watts:
        return pool.watts * pool.pue * capacity.machines * share / WHOLE
    placement, hardware = run.made.get("placement") or {}, run.made.get("hardware") or {}
    names = list(hardware.get("devices") or ())[: len(placement.get("accelerators") or ())]
    devices = [known.power_w for known in map(matching, names) if known is not None]
    cores = float((run.made.get("resources") or {}).get("cpus") or 1.0) * int(placement.get("world_size") or 1)
    return (sum(devices) + cores * CORE_W) * (pool.pue if pool is not None else 1.0)
