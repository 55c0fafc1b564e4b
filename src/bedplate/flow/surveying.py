"""The bare doctor: what this machine has, what is wrong with it, and, when asked, how fast it is beside its own best.

What a machine reached is kept in BEDPLATE_HOME (`probes.json`, by host): a probe that reaches less than 70% of it is slow.
Does not know: how anything is read or probed (`hardware`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.pool import Inventory
from bedplate.hardware.fabric import Port, environment, ports
from bedplate.hardware.health import Health, health
from bedplate.hardware.inventory import inventory
from bedplate.hardware.nvml import NVML
from bedplate.hardware.probes import Probe, burn_in
from bedplate.hardware.storage import Nvme, SharedMount, nvme_devices, shared_mounts
from bedplate.hardware.topology import NumaNode, numa_nodes

PROBES_FILE = "probes.json"
LEAST_FREE = 0.05  # of a disk


@dataclass(frozen=True)
class Survey:
    """All that was found on one machine."""

    machine: Inventory
    nodes: tuple[NumaNode, ...]
    devices: tuple[Health, ...]
    ports: tuple[Port, ...]
    nvme: tuple[Nvme, ...]
    mounts: tuple[SharedMount, ...]
    probes: tuple[Probe, ...] = ()

    @property
    def troubles(self) -> list[str]:
        """What is wrong, in words; empty for a healthy machine."""
        found = [f"{disk.mount} is nearly full" for disk in self.machine.disks if disk.free_bytes < LEAST_FREE * disk.total_bytes]
        found += [f"device {each.index}: {trouble}" for each in self.devices for trouble in each.troubles]
        found += [f"port {port.adapter}/{port.number} is down" for port in self.ports if not port.active]
        slow = [each for each in self.probes if each.verdict == "slow"]
        return [*found, *(f"{each.name}: {each.value:.4g} {each.unit}, its best was {each.expected:.4g}" for each in slow)]

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        probes = [{**asdict(probe), "verdict": probe.verdict} for probe in self.probes]
        return {**asdict(self), "probes": probes, "environment": environment(self.ports), "troubles": self.troubles}


def survey(folder: Path, home: Path, probed: bool, system: Path = Path("/")) -> Survey:
    """Look at this machine; `folder` names the disk of interest, which is `probed` with the rest when asked. Raises OSError of a disk."""
    machine = inventory([folder], system=system)
    devices = health(NVML) if NVML is not None else ()
    probes = tuple(_probed(folder, home / PROBES_FILE, machine.host)) if probed else ()
    return Survey(machine, numa_nodes(system), devices, ports(system), nvme_devices(system), shared_mounts(system), probes)


def _probed(folder: Path, file: Path, host: str) -> Iterator[Probe]:
    known: dict[str, dict[str, float]] = json.loads(file.read_bytes()) if file.is_file() else {}
    best: Mapping[str, float] = known.get(host, {})
    found = list(burn_in(folder, best))
    known[host] = {each.name: max(each.value, best.get(each.name, 0.0)) for each in found}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, known)
    yield from found
