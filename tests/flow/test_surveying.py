"""The bare doctor: what is there, what is wrong, and what a machine reached before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.flow.surveying import PROBES_FILE, survey
from bedplate.hardware import probes
from hardware.trees import MOUNTS, NUMA, NVME, port, tree


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ROUNDS": 2, "MATRIX": 128, "COPY_BYTES": 1 << 20, "DISK_BYTES": 4 << 20, "READS": 50}.items():
        monkeypatch.setattr(probes, name, value)


def test_a_machine_with_everything(tmp_path: Path) -> None:
    system = tree(tmp_path / "system", {**NUMA, **NVME, **port("mlx5_0"), **port("mlx5_1", state="1: DOWN"), "proc/self/mounts": MOUNTS})
    found = survey(tmp_path, tmp_path / "home", False, system)
    assert (len(found.nodes), len(found.ports), len(found.nvme), len(found.mounts)) == (2, 2, 2, 3)
    assert "port mlx5_1/1 is down" in found.troubles
    values = found.to_json()
    assert values["environment"]["UCX_NET_DEVICES"] == "mlx5_0:1"
    assert json.loads(json.dumps(values))["probes"] == []


def test_a_machine_is_held_against_its_own_best(tmp_path: Path) -> None:
    first = survey(tmp_path, tmp_path / "home", True)
    assert {each.verdict for each in first.probes} == {"measured"}
    kept = json.loads((tmp_path / "home" / PROBES_FILE).read_text())
    kept[first.machine.host]["memory copy"] *= 100
    (tmp_path / "home" / PROBES_FILE).write_text(json.dumps(kept))
    again = survey(tmp_path, tmp_path / "home", True)
    assert any("memory copy" in trouble and "its best was" in trouble for trouble in again.troubles)
    assert (
        json.loads((tmp_path / "home" / PROBES_FILE).read_text())[first.machine.host]["memory copy"]
        == kept[first.machine.host]["memory copy"]
    )
