"""AMD's devices and TPUs, from trees of files that stand for machines that have them."""

from __future__ import annotations

from pathlib import Path

from bedplate.core.pool import Accelerator
from bedplate.hardware.inventory import inventory
from bedplate.hardware.other_accelerators import amd_devices, tpu_chips
from hardware.trees import tree

AMD = {
    "sys/module/amdgpu/version": "6.12.12\n",
    "sys/class/drm/card0/device/vendor": "0x1a03\n",  # the board's own display
    "sys/class/drm/card0/device/device": "0x2000\n",
    "sys/class/drm/card1/device/vendor": "0x1002\n",
    "sys/class/drm/card1/device/device": "0x74a1\n",
    "sys/class/drm/card1/device/mem_info_vram_total": "206141652992\n",
    "sys/class/drm/card1/device/product_name": "AMD Instinct MI300X OAM\n",
    "sys/class/drm/card1-DP-1/status": "connected\n",
    "sys/class/drm/card2/device/vendor": "0x1002\n",
    "sys/class/drm/card2/device/device": "0x740c\n",
    "sys/class/drm/card2/device/mem_info_vram_total": "68702699520\n",
}
TPU = {"run/tpu/accelerator-type": "v5litepod-8\n", **{f"dev/accel{number}": "" for number in (0, 1, 10, 2)}}


def test_amd_devices_by_board_or_number(tmp_path: Path) -> None:
    assert amd_devices(tree(tmp_path, AMD)) == (
        Accelerator(0, "AMD Instinct MI300X OAM", 206_141_652_992, "6.12.12"),
        Accelerator(1, "AMD 0x740c", 68_702_699_520, "6.12.12"),
    )
    assert amd_devices(tmp_path / "nothing") == ()


def test_tpu_chips_by_the_type_that_was_left_for_them(tmp_path: Path) -> None:
    chips = tpu_chips(tree(tmp_path, TPU))
    assert [chip.index for chip in chips] == [0, 1, 2, 3]
    assert chips[0] == Accelerator(0, "TPU v5litepod", 16 << 30, "")
    (tmp_path / "run/tpu/accelerator-type").unlink()
    assert tpu_chips(tmp_path)[0] == Accelerator(0, "TPU of unknown type", 0, "")
    assert tpu_chips(tmp_path / "nothing") == ()


def test_they_are_in_the_inventory_of_a_machine_without_nvidia_devices(tmp_path: Path) -> None:
    found = inventory([tmp_path], nvml=None, system=tree(tmp_path, AMD))
    assert [device.model for device in found.accelerators] == ["AMD Instinct MI300X OAM", "AMD 0x740c"]
