"""`bedplate doctor` without a run, and how a survey is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bedplate.cli.survey_view import survey_text
from bedplate.core.pool import Accelerator
from bedplate.flow.surveying import survey
from bedplate.hardware.health import Health
from bedplate.hardware.probes import Probe
from cli.kit import as_json, bedplate
from hardware.trees import MOUNTS, NUMA, NVME, port, tree


def test_the_bare_doctor_needs_no_project(tmp_path: Path) -> None:
    done = bedplate(tmp_path, "doctor")
    assert "processor" in done.stdout and "memory" in done.stdout
    assert done.returncode == (1 if "TROUBLE" in done.stdout else 0)
    values = bedplate(tmp_path, "doctor", "--json")
    assert '"machine"' in values.stdout
    if not done.returncode:
        assert as_json(tmp_path, "doctor")["troubles"] == []


def test_everything_has_a_line(tmp_path: Path) -> None:
    system = tree(tmp_path, {**NUMA, **NVME, **port("mlx5_0"), **port("mlx5_1", state="1: DOWN"), "proc/self/mounts": MOUNTS})
    found = survey(tmp_path, tmp_path, False, system)
    machine = replace(found.machine, accelerators=(Accelerator(0, "NVIDIA H100", 80 * 10**9, "580"),))
    sick = Health(0, 95, 4, True, ("it is 95 degrees Celsius hot",))
    text = survey_text(replace(found, machine=machine, devices=(sick,), probes=(Probe("disk read", 50.0, "MB/s", 1000.0),)))
    for part in (
        "NUMA node    0: 8 cores, 0.1 GB",
        "accelerator  0: NVIDIA H100, 80.0 GB, 4 NVLinks, 95 C, MIG",
        "port         mlx5_0/1: InfiniBand, 400 Gb/s, active ib0",
        "NVMe         nvme1n1: SAMSUNG MZQL23T8HCLS-00A07, 3.8 TB",
        "shared       /home/all of us: NFS from server:/home, read only",
        "disk read  50 MB/s  slow",
        "TROUBLE  device 0: it is 95 degrees Celsius hot",
        "TROUBLE  port mlx5_1/1 is down",
        "TROUBLE  disk read: 50 MB/s, its best was 1000",
    ):
        assert part in text, text
