"""A kind of accelerator in numbers: the type in which the catalog of `hardware` speaks to the planner of `train`.

Does not know: where the numbers come from (`hardware.catalog`), or what is reached of them in practice (`train.planner.efficiency`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Device:
    """One accelerator as its vendor publishes it.

    `peak_flops` is dense FLOP/s (integer: operations/s) by precision: fp32, tf32, bf16, fp16, fp8, int8; a missing one is not supported.
    `memory_bytes_per_s` is that of its memory. `scale_up_bytes_per_s` is one direction of its fast links (NVLink, Infinity Fabric, ICI)
    among `domain` devices, `scale_out_bytes_per_s` one direction of its share of the network. `price_usd_per_h` is an estimate.
    `cites` says for every field where it is published, and `estimated` which fields nobody publishes.
    """

    name: str
    vendor: str
    peak_flops: Mapping[str, float]
    memory_bytes: int
    memory_bytes_per_s: float
    scale_up_bytes_per_s: float
    domain: int
    scale_out_bytes_per_s: float
    power_w: float
    price_usd_per_h: float
    aliases: tuple[str, ...] = ()
    cites: Mapping[str, str] = field(default_factory=dict)
    estimated: tuple[str, ...] = ()

    @property
    def half(self) -> str:
        """The 16-bit precision that training uses on it, or fp32 where there is none."""
        return next((name for name in ("bf16", "fp16") if name in self.peak_flops), "fp32")

    def peak(self, precision: str) -> float:
        """Dense FLOP/s at `precision`; at one that it lacks, that of the next wider one that it has."""
        wider = {"fp8": ("fp8", "bf16", "fp16"), "bf16": ("bf16", "fp16", "fp32"), "fp16": ("fp16", "bf16", "fp32")}
        names = wider.get(precision, (precision, "fp32"))
        return next((self.peak_flops[name] for name in names if name in self.peak_flops), self.peak_flops[self.half])
