"""The inventory of this machine: cores, memory, disks, and NVIDIA devices where their library is installed.

Does not know: AMD, TPU, network fabrics or the health of anything; those probes come with pools.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from bedplate.core.pool import Accelerator, Disk, Inventory

try:  # the one place that asks for it; without it a machine counts as having no NVIDIA devices
    import pynvml
except ModuleNotFoundError:
    pynvml = None

CGROUP = Path("/sys/fs/cgroup")


def inventory(paths: Sequence[Path], nvml: Any = pynvml, cgroup: Path = CGROUP) -> Inventory:
    """What this machine has. `paths` name the disks of interest; `nvml` and `cgroup` are replaced by recorded ones in tests."""
    return Inventory(
        host=platform.node(),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=_cores(cgroup),
        memory_bytes=_memory_bytes(cgroup),
        disks=_disks(paths),
        accelerators=_accelerators(nvml) if nvml is not None else (),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _cores(cgroup: Path) -> int:
    """Cores that this process may use: its affinity, cut to the quota of its container (cpu.max of cgroup v2), at least one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _first_word(cgroup / "cpu.max")
    if quota is None or not quota[0].isdigit():
        return usable
    return max(1, min(usable, int(quota[0]) // int(quota[1])))


def _memory_bytes(cgroup: Path) -> int:
    limit = _first_word(cgroup / "memory.max")
    total = int(psutil.virtual_memory().total)
    return min(total, int(limit[0])) if limit and limit[0].isdigit() else total


def _first_word(path: Path) -> list[str] | None:
    try:
        return path.read_text().split()
    except OSError:
        return None


def _disks(paths: Sequence[Path]) -> tuple[Disk, ...]:
    mounted = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    found: dict[str, Disk] = {}
    for path in paths:
        folder = path.resolve()
        mount = next((str(place) for place in (folder, *folder.parents) if str(place) in mounted), "/")
        usage = psutil.disk_usage(mount)
        found[mount] = Disk(mount, mounted.get(mount, ""), usage.total, usage.free)
    return tuple(found.values())


def _accelerators(nvml: Any) -> tuple[Accelerator, ...]:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # the library without a driver: a machine without devices
        return ()
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        return tuple(_accelerator(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount()))
    finally:
        nvml.nvmlShutdown()


def _accelerator(nvml: Any, index: int, driver: str) -> Accelerator:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    return Accelerator(index, _text(nvml.nvmlDeviceGetName(device)), int(nvml.nvmlDeviceGetMemoryInfo(device).total), driver)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
