"""Published throughput, as cases for the planner: every row of published.csv with the source that sources.json names for it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bedplate.hardware.catalog.reader import device
from bedplate.train.planner.efficiency import FITTED, Constants
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.memory import RUNTIME_BYTES
from bedplate.train.planner.presets import preset
from bedplate.train.planner.step import Prediction, predict

HERE = Path(__file__).parent
AXES = ("data", "shard", "tensor", "pipeline", "context", "expert", "zero", "micro_batch", "stages_per_rank")


@dataclass(frozen=True)
class Case:
    """A configuration, and what was measured of it: tokens a second and device, and GiB on the fullest device where it is told."""

    source: str
    work: Work
    cluster: Cluster
    layout: Layout
    tokens_per_s: float
    memory_gib: float | None

    @property
    def name(self) -> str:
        """For people."""
        what = f"{self.work.shape.name} {self.work.sequence} {self.work.precision} {self.layout.recompute}"
        return f"{self.source}: {what}, {self.cluster.devices} x {self.cluster.device.name}, {self.layout.text()}"

    def predict(self, constants: Constants = FITTED) -> Prediction:
        """The planner's prediction."""
        return predict(self.work, self.cluster, self.layout, constants)

    def error(self, constants: Constants = FITTED) -> float:
        """Predicted over measured tokens a second, less one."""
        return self.predict(constants).tokens_per_s_per_device / self.tokens_per_s - 1

    def memory_error(self) -> float | None:
        """Predicted over measured memory, less one. What is measured is torch's own, without the driver's and the collectives'."""
        own = self.predict().memory.total_bytes - RUNTIME_BYTES
        return None if self.memory_gib is None else own / 2**30 / self.memory_gib - 1


@cache
def sources() -> dict[str, str]:
    """What each source is, with its address."""
    return json.loads((HERE / "sources.json").read_text())


@cache
def cases() -> tuple[Case, ...]:
    """All rows."""
    with (HERE / "published.csv").open() as file:
        return tuple(map(_case, csv.DictReader(file)))


def _case(row: Mapping[str, str]) -> Case:
    def number(name: str, unit: float = 1.0) -> float | None:
        return float(row[name]) * unit if row[name] else None

    work = Work(
        preset(row["model"]),
        int(row["sequence"]),
        int(row["batch"]),
        row["precision"],
        row["kernels"],
        fused_loss=row["fused_loss"] == "1",
        overlap_tensor=row["overlap_tensor"] == "1",
        gradient_bytes=float(row["gradient_bytes"]),
    )
    cluster = Cluster(device(row["device"]), int(row["devices"]), number("power_w"), number("memory_gb_per_s", 1e9))
    layout = Layout(**{axis: int(row[axis]) for axis in AXES}, recompute=row["recompute"])
    layout.check(work, cluster)
    return Case(row["source"], work, cluster, layout, float(row["tokens_per_s"]), number("memory_gib"))
