"""Pools: what an event records of a machine and a place is plain JSON that names all of it."""

from __future__ import annotations

import json

from bedplate.core.pool import Accelerator, Disk, Inventory, Placement

MACHINE = Inventory(
    host="ship",
    system="Linux 6.8",
    processor="x86_64",
    cores=8,
    memory_bytes=32 << 30,
    disks=(Disk("/", "ext4", 1 << 40, 1 << 39),),
    accelerators=(Accelerator(0, "H200", 140 << 30, "570.1"), Accelerator(1, "H200", 140 << 30, "570.1")),
)


def test_an_inventory_is_plain_json() -> None:
    values = json.loads(json.dumps(MACHINE.to_json()))
    assert values["accelerators"][1] == {"index": 1, "model": "H200", "memory_bytes": 140 << 30, "driver": "570.1"}
    assert values["disks"] == [{"mount": "/", "file_system": "ext4", "total_bytes": 1 << 40, "free_bytes": 1 << 39}]
    assert (values["host"], values["cores"], values["memory_bytes"]) == ("ship", 8, 32 << 30)


def test_a_placement_is_plain_json() -> None:
    values = json.loads(json.dumps(Placement("here", "local", 2, (0, 1), "two free").to_json()))
    assert values == {"pool": "here", "engine": "local", "world_size": 2, "accelerators": [0, 1], "why": "two free"}


def test_equal_machines_are_equal_and_can_be_keys() -> None:
    again = Inventory(**vars(MACHINE))
    assert again == MACHINE
    assert len({again, MACHINE}) == 1
