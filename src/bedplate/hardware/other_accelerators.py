"""Accelerators that are not NVIDIA's: AMD's from sysfs, TPUs from the devices and the metadata that their machines have.

Neither exists where this is tested: recorded trees of files stand for them.
Sources: amdgpu's sysfs (Documentation/gpu/amdgpu of the Linux kernel); Cloud TPU's `accelerator-type` attribute and /dev/accel*.
Does not know: NVIDIA devices (`inventory`, `health`), or how a device is programmed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bedplate.core.pool import Accelerator

AMD_VENDOR = "0x1002"
TPU_TYPE_FILE = "run/tpu/accelerator-type"  # where a start-up script leaves what the metadata server says; asking it would need the network
TPU_MEMORY_BYTES = {"v2": 8, "v3": 16, "v4": 32, "v5e": 16, "v5litepod": 16, "v5p": 95, "v6e": 32}  # GiB of HBM a chip, by its generation


def amd_devices(system: Path = Path("/")) -> tuple[Accelerator, ...]:
    """AMD's devices that compute, by card. `system` is where sys is."""
    return tuple(Accelerator(index, *facts) for index, facts in enumerate(_cards(system)))


def _cards(system: Path) -> Iterator[tuple[str, int, str]]:
    driver = ""
    with suppress(OSError):
        driver = (system / "sys/module/amdgpu/version").read_text().strip()
    for card in sorted((system / "sys/class/drm").glob("card[0-9]*"), key=lambda path: path.name):
        if "-" in card.name:  # a connector of a card
            continue
        device = card / "device"
        with suppress(OSError, ValueError):
            if (device / "vendor").read_text().strip() != AMD_VENDOR:
                continue
            memory_bytes = int((device / "mem_info_vram_total").read_text())
            name = "AMD " + (device / "device").read_text().strip()
            with suppress(OSError):  # firmware that names the board
                name = (device / "product_name").read_text().strip() or name
            yield name, memory_bytes, driver


def tpu_chips(system: Path = Path("/")) -> tuple[Accelerator, ...]:
    """The TPU chips of this machine: one for each /dev/accel*, named by the type that was left at TPU_TYPE_FILE."""
    chips = sorted((system / "dev").glob("accel[0-9]*"), key=lambda path: int(path.name.removeprefix("accel")))
    kind = ""
    with suppress(OSError):
        kind = (system / TPU_TYPE_FILE).read_text().strip()
    generation = kind.partition("-")[0].lower()
    memory_bytes = TPU_MEMORY_BYTES.get(generation, 0) << 30
    return tuple(Accelerator(index, f"TPU {generation or 'of unknown type'}", memory_bytes, "") for index, _ in enumerate(chips))
