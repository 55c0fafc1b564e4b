"""The health of NVIDIA devices by NVML: uncorrected memory errors, retired pages, what slows the clock, heat, links, slices (MIG).

Where no such device is tested, a recorded stand-in for the module `pynvml` answers. Source: NVIDIA's NVML API reference.
Does not know: Xid errors of the past, which only the kernel's log has, or other makers' devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SLOWED = {  # bits of nvmlClocksEventReasons that tell of trouble; the others are idling and what somebody asked for
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "software thermal slowdown",
    0x0000000000000040: "hardware thermal slowdown",
    0x0000000000000080: "hardware power brake",
}
HOT_C = 90
MAX_LINKS = 18


@dataclass(frozen=True)
class Health:
    """What a device says of itself. `troubles` are in words, empty for a healthy one; `links` are NVLinks that are up; `slices`: MIG."""

    index: int
    temperature_c: int | None
    links: int
    slices: bool
    troubles: tuple[str, ...]


def health(nvml: Any) -> tuple[Health, ...]:
    """All devices, by index; none without a driver. What a device does not answer is left out of its line."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        return tuple(_health(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    finally:
        nvml.nvmlShutdown()


def _health(nvml: Any, index: int) -> Health:
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        return Health(index, None, 0, False, (f"it does not answer: {error}",))
    heat = _asked(nvml, "nvmlDeviceGetTemperature", device, nvml.NVML_TEMPERATURE_GPU)
    sliced = _asked(nvml, "nvmlDeviceGetMigMode", device)
    links = sum(_asked(nvml, "nvmlDeviceGetNvLinkState", device, link) == 1 for link in range(MAX_LINKS))
    return Health(index, heat, links, bool(sliced and sliced[0]), tuple(_troubles(nvml, device, heat)))


def _troubles(nvml: Any, device: Any, heat: int | None) -> Iterator[str]:
    errors = _asked(nvml, "nvmlDeviceGetTotalEccErrors", device, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    if errors:
        yield f"{errors} uncorrected memory errors since the driver was loaded: drain it and reset it"
    if _asked(nvml, "nvmlDeviceGetRetiredPagesPendingStatus", device):
        yield "memory pages wait to be retired: restart the machine"
    slowed = _asked(nvml, "nvmlDeviceGetCurrentClocksEventReasons", device) or 0
    yield from (f"its clock is held down: {name}" for bit, name in SLOWED.items() if slowed & bit)
    if heat is not None and heat >= HOT_C:
        yield f"it is {heat} degrees Celsius hot"


def _asked(nvml: Any, function: str, *arguments: Any) -> Any:
    """What a function of NVML says; None where the device or the driver does not know it."""
    try:
        return getattr(nvml, function)(*arguments)
    except (nvml.NVMLError, AttributeError):
        return None
