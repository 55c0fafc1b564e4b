"""InfiniBand and RoCE ports of this machine, from sysfs: state, rate, and the network interface beside each.

Source: Documentation/ABI/stable/sysfs-class-infiniband of the Linux kernel.
Does not know: switches, subnets, or what a collective makes of a port (`cluster` renders its environment).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PORTS = "sys/class/infiniband"


@dataclass(frozen=True)
class Port:
    """One port of an adapter. `rate_gb_s` is in gigabits a second, `layer` says whether it is InfiniBand or RoCE, `node` its NUMA node."""

    adapter: str
    number: int
    layer: Literal["InfiniBand", "Ethernet"]
    active: bool
    rate_gb_s: float
    interfaces: tuple[str, ...]
    node: int | None


def ports(system: Path = Path("/")) -> tuple[Port, ...]:
    """All ports, by adapter and number. `system` is where sys is."""
    return tuple(sorted(_ports(system / PORTS), key=lambda port: (port.adapter, port.number)))


def _ports(folder: Path) -> Iterator[Port]:
    for adapter in folder.iterdir() if folder.is_dir() else ():
        for place in (adapter / "ports").glob("[0-9]*"):
            with suppress(OSError, ValueError):  # a port that goes away while it is read
                state = (place / "state").read_text().partition(":")[2].strip()
                rate = re.match(r"[0-9.]+", (place / "rate").read_text())
                layer: Literal["InfiniBand", "Ethernet"] = "Ethernet" if "Ethernet" in (place / "link_layer").read_text() else "InfiniBand"
                beside = adapter / "device" / "net"
                names = tuple(sorted(each.name for each in beside.iterdir())) if beside.is_dir() else ()
                speed = float(rate[0]) if rate else 0.0
                yield Port(adapter.name, int(place.name), layer, state == "ACTIVE", speed, names, _node(adapter / "device" / "numa_node"))


def _node(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        number = int(path.read_text())
        return number if number >= 0 else None  # -1: the firmware does not say
    return None


def environment(found: Sequence[Port]) -> dict[str, str]:
    """What makes NCCL and UCX use these ports, as their documentation names it; nothing where no port is active.

    Source: NCCL's environment variables (NCCL_IB_HCA, NCCL_SOCKET_IFNAME, NCCL_IB_DISABLE) and UCX's (UCX_NET_DEVICES).
    """
    active = [port for port in found if port.active]
    if not active:
        return {"NCCL_IB_DISABLE": "1"} if found else {}
    interfaces = sorted({name for port in active for name in port.interfaces})
    chosen = {
        "NCCL_IB_HCA": ",".join(f"={port.adapter}:{port.number}" for port in active).replace(",=", ","),
        "UCX_NET_DEVICES": ",".join(f"{port.adapter}:{port.number}" for port in active),
    }
    return {**chosen, **({"NCCL_SOCKET_IFNAME": ",".join(interfaces)} if interfaces else {})}
