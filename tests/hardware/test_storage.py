"""NVMe devices and shared file systems."""

from __future__ import annotations

from pathlib import Path

from bedplate.hardware.storage import Nvme, SharedMount, nvme_devices, shared_mounts
from hardware.trees import MOUNTS, NVME, tree


def test_devices_with_model_size_and_node(tmp_path: Path) -> None:
    assert nvme_devices(tree(tmp_path, NVME)) == (
        Nvme("nvme0n1", "Small", 2000 * 512, 0),
        Nvme("nvme1n1", "SAMSUNG MZQL23T8HCLS-00A07", 7_501_476_528 * 512, None),
    )
    assert nvme_devices(tmp_path / "nothing") == ()


def test_mounts_that_other_machines_may_have_too(tmp_path: Path) -> None:
    assert shared_mounts(tree(tmp_path, {"proc/self/mounts": MOUNTS})) == (
        SharedMount("/mnt/lustre", "Lustre", "10.0.0.1@o2ib:/scratch", True),
        SharedMount("/home/all of us", "NFS", "server:/home", False),
        SharedMount("/jfs", "JuiceFS", "JuiceFS:data", True),
    )
    assert shared_mounts(tmp_path / "nothing") == ()


def test_this_machine_can_be_asked() -> None:
    assert all(mount.mount.startswith("/") for mount in shared_mounts())
    assert all(device.size_bytes > 0 for device in nvme_devices())
