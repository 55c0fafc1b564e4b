"""The inventory: what this process may use, not what the machine has in all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bedplate.core.pool import Accelerator, Inventory
from bedplate.hardware.inventory import inventory

GIB = 2**30
USABLE = len(os.sched_getaffinity(0))


def machine(folder: Path, groups: str, files: dict[str, str]) -> Path:
    """A stand-in for proc and sys: what /proc/self/cgroup says, and files below /sys/fs/cgroup."""
    values = {"proc/self/cgroup": groups, "proc/cpuinfo": "processor\t: 0\nmodel name\t: A Processor @ 2 GHz\n"}
    for name, text in {**values, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


# -- this machine ---------------------------------------------------------------------------------------------------------------------


def test_this_machine(tmp_path: Path) -> None:
    found = inventory([tmp_path], nvml=None)
    assert 1 <= found.cores <= USABLE
    assert 0 < found.memory_bytes <= psutil.virtual_memory().total
    assert found.host
    assert found.processor
    assert found.system.startswith("Linux ")
    assert found.accelerators == ()
    assert Inventory(**{**json.loads(json.dumps(found.to_json())), "disks": found.disks, "accelerators": ()}) == found


def test_a_process_that_is_bound_to_one_core_has_one() -> None:
    script = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    script += "from bedplate.hardware.inventory import inventory; print(inventory([], None).cores)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) == "1\n"


# -- disks ----------------------------------------------------------------------------------------------------------------------------


def test_paths_on_one_disk_are_one_disk(tmp_path: Path) -> None:
    [disk] = inventory([tmp_path, tmp_path / "a", tmp_path / "not" / "there"], nvml=None).disks
    assert tmp_path.resolve().is_relative_to(disk.mount)
    assert 0 < disk.free_bytes <= disk.total_bytes == psutil.disk_usage(str(tmp_path)).total


def test_disks_by_where_they_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    disks = {disk.mount: disk.file_system for disk in inventory([tmp_path, tmp_path / "link" / "self"], nvml=None).disks}
    assert disks["/proc"] == "proc"
    assert len(disks) == 2


# -- containers -----------------------------------------------------------------------------------------------------------------------

V1 = "4:memory:/docker/abc\n3:cpuset:/\n1:cpu,cpuacct:/docker/abc\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {}, USABLE),
        ("0::/\n", {"cpu.max": "max 100000\n"}, USABLE),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "199999 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, USABLE),
        ("0::/user.slice/job\n", {"user.slice/cpu.max": "100000 100000\n", "user.slice/job/cpu.max": "max 100000\n"}, 1),  # from above
        ("0::/../elsewhere\n", {"cpu.max": "100000 100000\n"}, 1),  # told from outside a container's namespace
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "100000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),  # the mount is the container's own
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "-1\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, USABLE),
    ],
)
def test_cores_respect_the_quota(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    assert inventory([], nvml=None, system=machine(tmp_path, groups, files)).cores == cores


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": f"{GIB}\n"}, GIB),
        ("0::/a/b\n", {"a/memory.max": f"{GIB}\n", "a/b/memory.max": f"{2 * GIB}\n"}, GIB),
        ("1:name=systemd:/\n0::/a\n", {"unified/a/memory.max": f"{GIB}\n"}, GIB),  # both versions at once
        (V1, {"memory/docker/abc/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        (V1, {"memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n"}, None),  # no limit, as version 1 says it
    ],
)
def test_memory_respects_the_limit(tmp_path: Path, groups: str, files: dict[str, str], limit: int | None) -> None:
    total = psutil.virtual_memory().total
    assert inventory([], nvml=None, system=machine(tmp_path, groups, files)).memory_bytes == (limit or total)


def test_the_processor_by_the_kernels_name_for_it(tmp_path: Path) -> None:
    assert inventory([], nvml=None, system=machine(tmp_path, "0::/\n", {})).processor == "A Processor @ 2 GHz"
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd0c\n")  # an Arm kernel names none
    assert inventory([], nvml=None, system=tmp_path).processor == os.uname().machine


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    found = inventory([], nvml=None, system=tmp_path)
    assert (found.cores, found.memory_bytes) == (USABLE, psutil.virtual_memory().total)


# -- devices: NVML by its documented interface, with made-up devices; nothing here has asked a real one --------------------------------


class FakeError(Exception):
    """As pynvml.NVMLError, of which the others are subclasses."""


class LibraryNotFound(FakeError):
    pass


class DriverNotLoaded(FakeError):
    pass


class Nvml(SimpleNamespace):
    """A stand-in for the module pynvml: devices as (name, memory in bytes), an exception for one that does not answer."""

    NVMLError, NVMLError_LibraryNotFound, NVMLError_DriverNotLoaded = FakeError, LibraryNotFound, DriverNotLoaded

    def __init__(self, *devices: Any, init: Exception | None = None) -> None:
        super().__init__(devices=devices, init=init, open=0)

    def nvmlInit(self) -> None:
        if self.init is not None:
            raise self.init
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.15"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[Any, int]:
        if isinstance(self.devices[index], Exception):
            raise self.devices[index]
        return self.devices[index]

    def nvmlDeviceGetName(self, device: tuple[Any, int]) -> Any:
        return device[0]

    def nvmlDeviceGetMemoryInfo(self, device: tuple[Any, int]) -> SimpleNamespace:
        return SimpleNamespace(total=device[1], free=device[1] // 2, used=device[1] // 2)


def test_devices_by_name_and_memory() -> None:
    """Older versions of the library give names as bytes."""
    nvml = Nvml(("NVIDIA H200", 141 * GIB), (b"NVIDIA L4", 24 * GIB))
    assert inventory([], nvml).accelerators == (
        Accelerator(0, "NVIDIA H200", 141 * GIB, "570.86.15"),
        Accelerator(1, "NVIDIA L4", 24 * GIB, "570.86.15"),
    )
    assert nvml.open == 0, "the library is closed again"


@pytest.mark.parametrize("init", [LibraryNotFound("NVML Shared Library Not Found"), DriverNotLoaded("Driver Not Loaded")])
def test_the_library_without_a_driver_is_a_machine_without_devices(init: Exception) -> None:
    assert inventory([], Nvml(("NVIDIA H200", GIB), init=init)).accelerators == ()


def test_a_driver_that_cannot_be_asked_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="cannot be asked for: Driver/library version mismatch"):
        assert inventory([], Nvml(init=FakeError("Driver/library version mismatch"))).accelerators == ()


def test_a_device_that_does_not_answer_is_left_out_and_warned_of() -> None:
    nvml = Nvml(("NVIDIA L4", 24 * GIB), FakeError("GPU is lost"), ("NVIDIA L4", 24 * GIB))
    with pytest.warns(RuntimeWarning, match="device 1 is left out: GPU is lost"):
        assert [device.index for device in inventory([], nvml).accelerators] == [0, 2]
    assert nvml.open == 0
