"""Burn-in probes: each is a figure above zero, leaves nothing behind, and is held against what is expected."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from bedplate.hardware import probes
from bedplate.hardware.probes import Probe, burn_in


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter than on a machine that is examined."""
    for name, value in {"ROUNDS": 2, "MATRIX": 128, "COPY_BYTES": 1 << 20, "DISK_BYTES": 4 << 20, "READS": 50}.items():
        monkeypatch.setattr(probes, name, value)


def test_every_probe_measures_and_cleans_up(tmp_path: Path) -> None:
    found = {each.name: each for each in burn_in(tmp_path, {"memory copy": 1e-9, "disk write": 1e12})}
    assert list(found) == ["matmul float32", "matmul float64", "memory copy", "disk write", "disk read", "disk random reads"]
    assert all(each.value > 0 for each in found.values())
    assert list(tmp_path.iterdir()) == []
    assert (found["memory copy"].verdict, found["disk write"].verdict, found["disk read"].verdict) == ("ok", "slow", "measured")


@pytest.mark.parametrize(("value", "verdict"), [(100.0, "ok"), (70.0, "ok"), (69.0, "slow")])
def test_slow_is_below_70_percent(value: float, verdict: str) -> None:
    assert Probe("p", value, "GB/s", 100.0).verdict == verdict


def test_memory_as_a_disk_is_probed_all_the_same() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert len(list(burn_in(Path(folder)))) == 6


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(burn_in(tmp_path / "nowhere"))
