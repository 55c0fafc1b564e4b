"""Pools and what a machine has: the types in which hardware, placement and the planner speak.

Does not know: how a machine is probed (`hardware`) or where a step goes (`cluster.place`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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
