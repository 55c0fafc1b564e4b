"""Trees of files as sysfs has them, recorded by hand from the kernel's documentation: what cannot exist where this is tested."""

from __future__ import annotations

from pathlib import Path


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write the files below `root`, and return it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def port(
    adapter: str, number: int = 1, state: str = "4: ACTIVE", rate: str = "400 Gb/sec (4X NDR)", layer: str = "InfiniBand"
) -> dict[str, str]:
    """A port of an adapter, with its interface and NUMA node."""
    below = f"sys/class/infiniband/{adapter}"
    return {
        f"{below}/ports/{number}/state": f"{state}\n",
        f"{below}/ports/{number}/rate": f"{rate}\n",
        f"{below}/ports/{number}/link_layer": f"{layer}\n",
        f"{below}/device/numa_node": "1\n",
        f"{below}/device/net/ib{adapter[-1]}/mtu": "4092\n",
    }


NUMA = {
    "sys/devices/system/node/node0/cpulist": "0-3,8-11\n",
    "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:       65536 kB\nNode 0 MemFree:  5 kB\n",
    "sys/devices/system/node/node1/cpulist": "4-7\n",
    "sys/devices/system/node/node1/meminfo": "Node 1 MemTotal:       32768 kB\n",
    "sys/devices/system/node/possible": "0-1\n",
}
NVME = {
    "sys/block/nvme1n1/size": "7501476528\n",
    "sys/block/nvme1n1/device/model": "SAMSUNG MZQL23T8HCLS-00A07               \n",
    "sys/block/nvme1n1/device/device/numa_node": "-1\n",
    "sys/block/nvme0n1/size": "2000\n",
    "sys/block/nvme0n1/device/model": "Small\n",
    "sys/block/nvme0n1/device/numa_node": "0\n",
    "sys/block/sda/size": "1000\n",
}
MOUNTS = (
    "/dev/root / ext4 rw,relatime 0 0\n"
    "10.0.0.1@o2ib:/scratch /mnt/lustre lustre rw,flock 0 0\n"
    "server:/home /home/all\\040of\\040us nfs4 ro,vers=4.2 0 0\n"
    "JuiceFS:data /jfs fuse.juicefs rw 0 0\n"
)
