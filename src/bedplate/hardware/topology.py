"""NUMA nodes of this machine, from sysfs: which cores and how much memory belong together.

Source: Documentation/admin-guide/mm/numa_memory_policy and /sys/devices/system/node of the Linux kernel.
Does not know: which process runs where, or devices (`fabric`, `storage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NODES = "sys/devices/system/node"


@dataclass(frozen=True)
class NumaNode:
    """One node: its number, its cores as the kernel numbers them, and its memory."""

    number: int
    cores: tuple[int, ...]
    memory_bytes: int


def numa_nodes(system: Path = Path("/")) -> tuple[NumaNode, ...]:
    """The nodes in order; none where the kernel tells of none. `system` is where proc and sys are."""
    return tuple(sorted(_nodes(system / NODES), key=lambda node: node.number))


def _nodes(folder: Path) -> Iterator[NumaNode]:
    for path in folder.glob("node[0-9]*"):
        with suppress(OSError):
            memory = re.search(r"MemTotal:\s+(\d+) kB", (path / "meminfo").read_text())
            cores = parse_list((path / "cpulist").read_text())
            yield NumaNode(int(path.name.removeprefix("node")), cores, int(memory[1]) * 1024 if memory else 0)


def parse_list(text: str) -> tuple[int, ...]:
    """A list of the kernel's, as `0-3,8,10-11`, in order."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)
