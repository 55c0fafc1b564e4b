"""The inventory of this machine: cores, memory, disks, and accelerators: NVIDIA's where their library is there, else others.

Does not know: how devices are (`health`), fabrics (`fabric`), shared file systems (`storage`), or how fast anything is (`probes`).
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from bedplate.core.pool import Accelerator, Disk, Inventory
from bedplate.hardware.nvml import NVML
from bedplate.hardware.other_accelerators import amd_devices, tpu_chips


def inventory(paths: Sequence[Path], nvml: Any = NVML, system: Path = Path("/")) -> Inventory:
    """What this machine has. `paths` name the disks of interest; `nvml` (the module pynvml) and `system` (where proc and sys are) are
    stand-ins in tests. Warns of a device that does not answer, and leaves it out.
    """
    return Inventory(
        host=platform.node(),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(system),
        cores=_cores(system),
        memory_bytes=_memory_bytes(system),
        disks=_disks(paths),
        accelerators=(tuple(_accelerators(nvml)) if nvml is not None else ()) or amd_devices(system) or tpu_chips(system),
    )


def _processor(system: Path) -> str:
    with suppress(OSError):
        for line in (system / "proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()  # where the kernel names none, as on many Arm machines


def _cores(system: Path) -> int:
    """Cores that this process may use: its affinity, cut to the quotas of its control groups (whole cores), at least one."""
    limits = [len(os.sched_getaffinity(0))]
    for quota, period in [*_settings(system, "", "cpu.max"), *_settings(system, "cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")]:
        if quota.isdigit() and int(period) > 0:  # else "max" (v2) or -1 (v1)
            limits.append(int(quota) // int(period))
    return max(1, min(limits))


def _memory_bytes(system: Path) -> int:
    """The machine's memory, cut to the limits of this process's control groups."""
    limits = [int(psutil.virtual_memory().total)]
    for (limit,) in [*_settings(system, "", "memory.max"), *_settings(system, "memory", "memory.limit_in_bytes")]:
        if limit.isdigit():
            limits.append(int(limit))
    return min(limits)


def _settings(system: Path, controller: str, *files: str) -> Iterator[list[str]]:
    """The words of these files in this process's control group and all above it, which bind it as well.

    `controller` names a hierarchy of version 1; empty is version 2. In a container the path that the kernel tells may lie outside what
    is mounted; the mounted top is the container's own group then. See cgroups(7).
    """
    mounts = [system / "sys/fs/cgroup" / controller] if controller else [system / "sys/fs/cgroup", system / "sys/fs/cgroup/unified"]
    with suppress(OSError):  # no control groups here
        for line in (system / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                for group in (Path(path), *Path(path).parents):
                    for mount in mounts:
                        with suppress(OSError):  # the top of a hierarchy has no limits
                            yield [word for file in files for word in (mount / str(group).lstrip("/") / file).read_text().split()]


def _disks(paths: Sequence[Path]) -> tuple[Disk, ...]:
    mounted = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    found: dict[str, Disk] = {}
    for path in paths:
        above = [folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists()]
        mount = next((str(folder) for folder in above if str(folder) in mounted), "/")
        usage = psutil.disk_usage(str(above[0]))
        found[mount] = Disk(mount, mounted.get(mount, ""), usage.total, usage.free)
    return tuple(found.values())


def _accelerators(nvml: Any) -> Iterator[Accelerator]:
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
        return  # the Python package without a driver: a machine without devices
    except nvml.NVMLError as error:
        warnings.warn(f"NVIDIA devices cannot be asked for: {error}", RuntimeWarning, stacklevel=2)
        return
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                device = nvml.nvmlDeviceGetHandleByIndex(index)
                memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(device).total)
                yield Accelerator(index, _text(nvml.nvmlDeviceGetName(device)), memory_bytes, driver)
            except nvml.NVMLError as error:
                warnings.warn(f"NVIDIA device {index} is left out: {error}", RuntimeWarning, stacklevel=2)
    finally:
        nvml.nvmlShutdown()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
