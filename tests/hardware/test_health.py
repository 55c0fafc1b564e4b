"""The health of devices, from a stand-in for NVML: no such device is here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bedplate.hardware.health import health


class NVMLError(Exception):
    """As pynvml's."""


class Nvml(SimpleNamespace):
    """Each device is a mapping of functions to what they answer; an exception is raised, and what is missing is not supported."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0

    def __init__(self, *devices: dict[str, Any], init: Exception | None = None) -> None:
        super().__init__(devices=devices, init=init, down=False)

    def nvmlInit(self) -> None:
        if self.init:
            raise self.init

    def nvmlShutdown(self) -> None:
        self.down = True

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        if "gone" in self.devices[index]:
            raise NVMLError("GPU is lost")
        device: dict[str, Any] = self.devices[index]
        return device

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)

        def ask(device: dict[str, Any], *arguments: int) -> Any:
            if name not in device:
                raise NVMLError("Not Supported")
            answer = device[name]
            return answer(*arguments) if callable(answer) else answer

        return ask


HEALTHY = {
    "nvmlDeviceGetTemperature": 41,
    "nvmlDeviceGetMigMode": (0, 0),
    "nvmlDeviceGetNvLinkState": lambda link: int(link < 4),
    "nvmlDeviceGetTotalEccErrors": 0,
    "nvmlDeviceGetRetiredPagesPendingStatus": 0,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1,  # idle
}


def test_a_healthy_device_has_no_troubles() -> None:
    nvml = Nvml(HEALTHY)
    (found,) = health(nvml)
    assert (found.temperature_c, found.links, found.slices, found.troubles) == (41, 4, False, ())
    assert nvml.down


def test_each_trouble_is_named() -> None:
    sick = {
        **HEALTHY,
        "nvmlDeviceGetTotalEccErrors": 3,
        "nvmlDeviceGetRetiredPagesPendingStatus": 1,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x48 | 0x4,
        "nvmlDeviceGetTemperature": 93,
        "nvmlDeviceGetMigMode": (1, 1),
    }
    (found,) = health(Nvml(sick))
    text = "; ".join(found.troubles)
    assert found.slices
    for part in ("3 uncorrected memory errors", "wait to be retired", "hardware slowdown", "hardware thermal slowdown", "93 degrees"):
        assert part in text
    assert len(found.troubles) == 5, "a cap on power that somebody asked for is none"


def test_what_a_device_does_not_know_is_left_out_and_one_that_is_lost_is_said() -> None:
    old, lost = health(Nvml({}, {"gone": True}))
    assert (old.temperature_c, old.links, old.troubles) == (None, 0, ())
    assert lost.troubles == ("it does not answer: GPU is lost",)


def test_without_a_driver_there_are_no_devices() -> None:
    assert health(Nvml(HEALTHY, init=NVMLError("Driver Not Loaded"))) == ()
