"""What is reached of published figures in practice: one set of constants for an accelerator and precision, and one for all of software.

They are fitted to published throughput (tests/train/planner/published.json, by tools/fit_planner.py): no constant belongs to one row.
Does not know: which rows it was fitted on, or how the constants are used (`kernels`, `network`, `step`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bedplate.core.device import Device


@dataclass(frozen=True)
class Efficiency:
    """Of one kind of accelerator: fractions of dense peak that large matrix products reach, and attention of the 16-bit peak."""

    matrix: Mapping[str, float]
    attention: float
    fitted: bool = True


@dataclass(frozen=True)
class Software:
    """What holds for all accelerators.

    `traffic` multiplies the bytes of operations between matrix products, `cast` those of conversions to fp8, `attention` the speed of
    attention, `launches` counts kernels of a layer's forward pass; each by how kernels are made (eager, compiled, fused).
    `memory`, `scale_up`, `scale_out` are fractions of published bandwidth: of memory, of fast links, of the network. `overlap` is the
    part of a pass behind which communication hides, `contention` what hidden communication still costs, `tensor_overlap` and
    `expert_overlap` the parts of these that are hidden. `grouped` is the speed of products of experts against one of their sum.
    `backward_attention` is the time of attention's backward pass in forward passes. `clocks` is the exponent of power in speed, `jitter`
    the loss for each doubling of nodes of eight, `latency_s` of a collective for each doubling of ranks.
    """

    traffic: Mapping[str, float] = field(default_factory=lambda: {"eager": 1.911, "compiled": 0.9578, "fused": 1.194})
    cast: Mapping[str, float] = field(default_factory=lambda: {"eager": 1.763, "compiled": 1.607, "fused": 1.218})
    attention: Mapping[str, float] = field(default_factory=lambda: {"eager": 0.5044, "compiled": 0.6393, "fused": 1.0})
    launches: Mapping[str, float] = field(default_factory=lambda: {"eager": 30.0, "compiled": 14.0, "fused": 18.0})
    launch_s: float = 6e-6
    memory: float = 0.8
    scale_up: float = 0.82
    scale_out: float = 0.85
    overlap: float = 0.95
    contention: float = 0.3312
    tensor_overlap: float = 0.6196
    expert_overlap: float = 0.3
    grouped: float = 0.7566
    backward_attention: float = 2.8
    clocks: float = 0.5123
    jitter: float = 0.005468
    latency_s: float = 12e-6


@dataclass(frozen=True)
class Constants:
    """All constants of the model of time."""

    devices: Mapping[str, Efficiency]
    software: Software = field(default_factory=Software)

    def of(self, device: Device) -> Efficiency:
        """Those of a device: its own, or the median of the fitted where nobody has published enough to fit them."""
        return self.devices.get(device.name, UNFITTED)


UNFITTED: Final = Efficiency({"fp32": 0.55, "bf16": 0.55, "fp8": 0.45}, 0.3, fitted=False)  # nobody published enough to fit: low on purpose
_HOPPER: Final = Efficiency({"bf16": 0.7342, "fp8": 0.6727}, 0.3991)
FITTED: Final = Constants(
    {
        "A100-80GB-SXM": Efficiency({"bf16": 0.8113}, 0.7047),
        "A100-40GB-SXM": Efficiency({"bf16": 0.8596}, 0.61),
        "H100-SXM": _HOPPER,
        "H200-SXM": _HOPPER,
        "B200": Efficiency({"bf16": 0.7342, "fp8": 0.5581}, 0.4319),  # of 16 bits no rows are published: as on the H100
        "GB200": Efficiency({"bf16": 0.7342, "fp8": 0.5325}, 0.4843),
        "CPU-core": Efficiency({"fp32": 0.5, "bf16": 0.5}, 0.2, fitted=False),
    }
)
