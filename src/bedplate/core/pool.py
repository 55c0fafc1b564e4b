"""Pools and what a machine has: the types in which hardware, placement and the planner speak.

Does not know: how a machine is probed (`hardware`) or where a step goes (`cluster.place`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Accelerator:
    """One device: `index` as the driver counts, `memory_bytes` in all."""

    index: int
    model: str
    memory_bytes: int
    driver: str


@dataclass(frozen=True)
class Disk:
    """A mounted file system that holds the project or its state."""

    mount: str
    file_system: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Inventory:
    """What one machine has. `cores` are those this process may use; `memory_bytes` respects a container's limit."""

    host: str
    system: str
    processor: str
    cores: int
    memory_bytes: int
    disks: tuple[Disk, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for events."""
        return asdict(self)


@dataclass(frozen=True)
class Pool:
    """A place to run: its name, the engine that launches there, and its machines."""

    name: str
    engine: str
    machines: tuple[Inventory, ...]


@dataclass(frozen=True)
class Placement:
    """Where a step would run: pool, engine, world size, and the accelerator indices of each worker (empty: CPU only)."""

    pool: str
    engine: str
    world_size: int
    accelerators: tuple[int, ...] = ()
    why: str = ""

    def to_json(self) -> Mapping[str, Any]:
        """A plain mapping for events."""
        return asdict(self)


@dataclass(frozen=True)
class Home:
    """Where something is, by law: the jurisdiction of the place, who operates it and that operator's home country. Empty: unknown."""

    jurisdiction: str = ""
    operator: str = ""
    operator_home: str = ""


@dataclass(frozen=True)
class Offer:
    """One way to run a step: machines of a pool at a price, in micro-units of `currency` for an hour of one machine.

    `machines` are those that may be had now (the quota), `cores`, `memory_bytes` and `devices` are of each; `carbon_g_kwh` are grams of
    CO2 for a kWh by the hour from now on, the last one lasts; `watts` are of a machine at work; `waits_s` is until it could start;
    `there_s` and `away_s` are how long spot stays and stays away; `egress_micros_gb` is for a GB from where the data lies to here.
    """

    pool: str
    engine: str
    terms: Literal["own", "on_demand", "spot"]
    hour_micros: int
    currency: str
    machines: int
    cores: float
    memory_bytes: int
    devices: int = 0
    device_model: str = ""
    home: Home = Home()
    carbon_g_kwh: tuple[float, ...] = ()
    watts: float = 0.0
    pue: float = 1.0
    waits_s: float = 0.0
    there_s: float = 0.0
    away_s: float = 0.0
    egress_micros_gb: int = 0
    fabric: str = ""
    image: str = ""
    source: str = ""
    priced_at: str = ""


@dataclass(frozen=True)
class Asked:
    """What a step asks of a place: workers and what each needs, its work in seconds (None: not known) and by when, and its data.

    `data_gb` lies at `data_in` (a pool's name or empty); `labels` are those that it carries; `stores` are where its checkpoints, caches
    and logs would go besides the pool itself; `changeover_s` is what a change of instance costs.
    """

    step: str
    workers: int = 1
    cpus: float = 1.0
    memory_bytes: int = 0
    devices: int = 0
    device_type: str = ""
    work_s: float | None = None
    deadline_s: float | None = None
    data_gb: float = 0.0
    data_in: str = ""
    labels: frozenset[str] = frozenset()
    stores: tuple[tuple[str, Home], ...] = ()
    changeover_s: float = 60.0


@dataclass(frozen=True)
class Judged:
    """An offer with what it would cost and take, and every reason why it may not be chosen: (rule, why). `starts_s` is from now."""

    offer: Offer
    cost_micros: int | None
    egress_micros: int
    machines: int
    starts_s: float
    ends_s: float | None
    carbon_g: float | None
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def total_micros(self) -> int | None:
        """Machines and egress together; None while the length of the work is not known."""
        return None if self.cost_micros is None else self.cost_micros + self.egress_micros
