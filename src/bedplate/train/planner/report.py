"""What the planner found, as text for people and as JSON.

Does not know: how it was found (`search`), or where the question came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bedplate.core.clock import human_duration
from bedplate.train.planner.cost import Bill
from bedplate.train.planner.layout import Cluster, Work
from bedplate.train.planner.search import Found, Loser
from bedplate.train.planner.step import Prediction

GIB: Final = 2**30
LOSERS_SHOWN: Final = 12
_MEMORY: Final = ("parameters", "gradients", "optimizer", "activations", "buffers")
_COMMUNICATION: Final = ("data", "shard", "tensor", "context", "expert", "pipeline")


@dataclass(frozen=True)
class Report:
    """The question, what was found, the bill of the best, and remarks on what the figures rest on."""

    work: Work
    cluster: Cluster
    found: Found
    bill: Bill | None
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; sizes in bytes, times in seconds."""
        losers = [{**asdict(loser), "mesh": loser.layout.axes()} for loser in self.found.losers]
        return {
            "model": self.work.shape.to_json(),
            "hardware": {"device": self.cluster.device.name, "devices": self.cluster.devices},
            "sequence": self.work.sequence,
            "batch": self.work.batch,
            "precision": self.work.precision,
            "kernels": self.work.kernels,
            "memory_limit_bytes": self.found.limit_bytes,
            "looked_at": self.found.looked_at,
            "best": [each.to_json() for each in self.found.best],
            "others": losers,
            "bill": asdict(self.bill) if self.bill else None,
            "remarks": list(self.remarks),
        }

    def text(self) -> str:
        """For people: the best meshes, the parts of the first, the others and why, the bill, the remarks."""
        shape, cluster = self.work.shape, self.cluster
        head = f"{shape.name}, {shape.parameters / 1e9:.2f} billion parameters, on {cluster.devices:,} x {cluster.device.name}"
        asked = f"{self.work.batch:,} sequences of {self.work.sequence:,} tokens a step, {self.work.precision}, {self.work.kernels} kernels"
        lines = [head, asked, ""]
        if self.found.best:
            lines += [*_table(self.found.best), "", *_parts(self.found.best[0], self.found.limit_bytes), ""]
        else:
            lines += [f"No mesh fits in {self.found.limit_bytes / GIB:,.0f} GiB a device.", ""]
        lines += [*self._others(), *self._bill()]
        return "\n".join([*lines, *(f"note: {remark}" for remark in self.remarks)])

    def _others(self) -> list[str]:
        others = self.found.losers
        if not others:
            return []
        shown = _chosen(others)
        width = max(len(loser.layout.text()) for loser in shown)
        rows = [f"  {loser.layout.text().ljust(width)}  {loser.why}" for loser in shown]
        hidden = len(others) - len(shown)
        more = [f"  and {hidden} more (--json lists them)"] if hidden else []
        return ["why the others lose:", *rows, *more, ""]

    def _bill(self) -> list[str]:
        if self.bill is None:
            return []
        bill = self.bill
        took = human_duration(bill.time_s) if bill.time_s < 2 * 86400 else f"{bill.time_s / 86400:,.1f} days"
        return [
            f"{bill.tokens:.3g} tokens: {took}, {bill.device_hours:,.0f} device hours, {bill.cost_usd:,.0f} USD, {bill.energy_kwh:,.0f} kWh"
            f" (at {bill.price_usd_per_h:.2f} USD a device hour, {bill.price_source}; energy by a model of power, an estimate)",
        ]


def _chosen(others: Sequence[Loser]) -> list[Loser]:
    """The nearest of those that fit and of those that do not."""
    slower = [loser for loser in others if not loser.short_bytes]
    unfit = [loser for loser in others if loser.short_bytes]
    simple = [loser for loser in unfit if len(loser.layout.axes()) == 1]  # what one would try first, and why not
    listed = dict.fromkeys([*slower[: LOSERS_SHOWN // 2], *simple, *unfit])
    return list(listed)[:LOSERS_SHOWN]


def _table(best: Sequence[Prediction]) -> list[str]:
    rows = [("mesh", "micro-batch", "recompute", "memory", "step", "tokens/s/device", "MFU", "communication", "bubble")]
    for each in best:
        total_s = each.time.total_s
        rows.append(
            (
                each.layout.text(),
                str(each.layout.micro_batch),
                each.layout.recompute,
                f"{each.memory.total_bytes / GIB:.1f} GiB",
                f"{total_s:.3g} s",
                f"{each.tokens_per_s_per_device:,.0f}",
                f"{each.model_flops_utilization:.1%}",
                f"{each.time.communication_s / total_s:.1%}",
                f"{each.time.bubble_s / total_s:.1%}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _parts(one: Prediction, limit_bytes: float) -> list[str]:
    memory = ", ".join(f"{name} {getattr(one.memory, f'{name}_bytes') / GIB:.1f}" for name in _MEMORY)
    total_s = one.time.total_s
    axes = [(name, getattr(one.time, f"{name}_s")) for name in _COMMUNICATION]
    named = [("compute", one.time.compute_s), *((f"{name} communication", value) for name, value in axes if value > 0)]
    rest = ("bubble", "optimizer", "jitter", "input", "checkpoint")
    named += [(name, getattr(one.time, f"{name}_s")) for name in rest if getattr(one.time, f"{name}_s") > 0]
    return [
        f"the best: {one.layout.text()}",
        f"  memory, GiB of {limit_bytes / GIB:.0f}: {memory}",
        "  time of a step: " + ", ".join(f"{name} {value:.3g} s ({value / total_s:.1%})" for name, value in named),
        f"  utilization: {one.model_flops_utilization:.1%} of the model's FLOP, {one.hardware_flops_utilization:.1%} with recomputation",
    ]
