"""NVMe devices and mounts of shared and parallel file systems, from sysfs and the mount table.

Does not know: how fast they are (`probes`), or which of them holds a project (`inventory`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512  # of /sys/block/*/size, whatever the device's own sectors are
SHARED = {
    "lustre": "Lustre",
    "beegfs": "BeeGFS",
    "fuse.juicefs": "JuiceFS",
    "juicefs": "JuiceFS",
    "nfs": "NFS",
    "nfs4": "NFS",
    "gpfs": "Spectrum Scale",
    "wekafs": "WEKA",
    "ceph": "CephFS",
    "fuse.ceph-fuse": "CephFS",
    "fuse.glusterfs": "GlusterFS",
}


@dataclass(frozen=True)
class Nvme:
    """One NVMe namespace: its device, model and size, and its NUMA node where the firmware says it."""

    device: str
    model: str
    size_bytes: int
    node: int | None


@dataclass(frozen=True)
class SharedMount:
    """A mount that other machines may have too: where, what kind, from where, and whether it may be written."""

    mount: str
    kind: str
    source: str
    writable: bool


def nvme_devices(system: Path = Path("/")) -> tuple[Nvme, ...]:
    """All namespaces, by device. `system` is where sys is."""
    return tuple(sorted(_devices(system / "sys/block"), key=lambda each: each.device))


def _devices(folder: Path) -> Iterator[Nvme]:
    for block in folder.glob("nvme*n*"):
        with suppress(OSError, ValueError):
            controller = block / "device"
            sectors, model = int((block / "size").read_text()), (controller / "model").read_text().strip()
            yield Nvme(block.name, model, sectors * SECTOR_BYTES, _node(controller))


def _node(controller: Path) -> int | None:
    for place in (controller / "numa_node", controller / "device" / "numa_node"):
        with suppress(OSError, ValueError):
            number = int(place.read_text())
            return number if number >= 0 else None
    return None


def shared_mounts(system: Path = Path("/")) -> tuple[SharedMount, ...]:
    """The mounts of shared file systems, in the order of the mount table (fstab's escapes undone)."""
    lines = (system / "proc/self/mounts").read_text().splitlines() if (system / "proc/self/mounts").is_file() else []
    found = []
    for line in lines:
        source, mount, kind, options, *_ = line.split(" ")
        if kind in SHARED:
            found.append(SharedMount(_plain(mount), SHARED[kind], _plain(source), "rw" in options.split(",")))
    return tuple(found)


def _plain(text: str) -> str:
    """Without the escapes of the mount table: a blank is \\040 there, a backslash \\134."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
