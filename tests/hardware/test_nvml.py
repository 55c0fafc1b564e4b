"""The one place that asks for NVIDIA's library."""

from __future__ import annotations

import subprocess
import sys


def test_without_the_package_there_is_none() -> None:
    code = "import sys; sys.modules['pynvml'] = None; from bedplate.hardware.nvml import NVML; sys.exit(NVML is not None)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
