"""NVIDIA's management library, where the package for it is installed: the one place that asks for it.

Does not know: whether there is a driver, or a device.
"""

from __future__ import annotations

from typing import Any

try:
    import pynvml
except ModuleNotFoundError:
    pynvml = None

NVML: Any = pynvml  # None: a machine counts as having no NVIDIA devices
