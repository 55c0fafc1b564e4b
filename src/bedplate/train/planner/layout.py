"""What is asked of the planner: the work of a step, the cluster, and how the ranks share the model.

Does not know: what any of it costs (`memory`, `step`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from bedplate.core.device import Device
from bedplate.core.errors import JobError
from bedplate.train.planner.shape import Shape

Precision = Literal["fp32", "bf16", "fp8"]
Recompute = Literal["none", "selective", "full"]
Kernels = Literal["eager", "compiled", "fused"]
RECOMPUTES: Final[tuple[Recompute, ...]] = ("none", "selective", "full")


@dataclass(frozen=True)
class Work:
    """The work of one step. `batch` is in sequences of `sequence` tokens, over all devices.

    `precision` is that of the matrix products (fp8: in the layers; attention and the output stay in 16 bits). `state_bytes` are bytes a
    parameter of the optimizer and its master copy, `gradient_bytes` of a gradient. `kernels` says how the operations between matrix
    products are done: one by one (eager), by a compiler, or by hand-written fused kernels (Transformer Engine and the like).
    `fused_loss`: logits are never held in 32 bits whole. `overlap_tensor`: tensor-parallel communication is hidden behind products.
    """

    shape: Shape
    sequence: int
    batch: int
    precision: Precision = "bf16"
    kernels: Kernels = "compiled"
    fused_loss: bool = False
    overlap_tensor: bool = False
    state_bytes: float = 12.0
    gradient_bytes: float = 4.0
    bytes_per_token: float = 4.0
    storage_bytes_per_s: float = math.inf
    checkpoint_every_s: float = math.inf

    @property
    def tokens(self) -> int:
        """Tokens of a step over all devices."""
        return self.batch * self.sequence


@dataclass(frozen=True)
class Cluster:
    """Devices of one kind. `power_limit_w` below the device's own slows its clocks; None: no limit."""

    device: Device
    devices: int
    power_limit_w: float | None = None
    memory_bytes_per_s: float | None = None

    @property
    def memory_rate(self) -> float:
        """Bytes/s of a device's memory."""
        return self.memory_bytes_per_s or self.device.memory_bytes_per_s


@dataclass(frozen=True)
class Layout:
    """How ranks share the work: `data` copies of a group in which `shard` ranks split parameters (FSDP, ZeRO-3), `tensor`, `pipeline`,
    `context` and `expert` (inside data x shard) parallel ranks.

    `zero` is 3 where `shard` x `context` ranks split parameters, gradients and optimizer, 1 where all that hold the same parameters split
    the optimizer only, 0 where nothing is split. `micro_batch` is in sequences of one rank. `stages_per_rank` above 1 is an interleaved
    pipeline.
    """

    data: int = 1
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    zero: int = 1
    micro_batch: int = 1
    stages_per_rank: int = 1
    recompute: Recompute = "none"

    @property
    def devices(self) -> int:
        """The product of the axes."""
        return self.data * self.shard * self.tensor * self.pipeline * self.context

    @property
    def replicas(self) -> int:
        """Ranks that get different sequences."""
        return self.data * self.shard

    @property
    def sharded(self) -> bool:
        """Whether parameters are split and gathered when they are needed."""
        return self.zero == 3 and self.shard * self.context > 1

    def micro_batches(self, batch: int) -> int:
        """Micro-batches that one rank works through in a step."""
        return max(1, math.ceil(batch / (self.replicas * self.micro_batch)))

    def check(self, work: Work, cluster: Cluster) -> None:
        """Raises JobError for a layout that cannot run this work on this cluster."""
        shape = work.shape
        broken = {
            f"the mesh has {self.devices} ranks, and there are {cluster.devices} devices": self.devices != cluster.devices,
            f"{work.batch} sequences do not divide by {self.replicas} data-parallel ranks": work.batch % self.replicas != 0,
            f"{shape.heads} heads do not divide by tensor={self.tensor}": shape.heads % self.tensor != 0,
            f"{shape.layers} layers are too few for {self.pipeline * self.stages_per_rank} stages": shape.layers
            < 0.9 * self.pipeline * self.stages_per_rank,
            f"a sequence of {work.sequence} does not divide by context={self.context}": work.sequence % (2 * self.context) != 0
            and self.context > 1,
            f"shard={self.shard} is for zero=3": self.shard > 1 and self.zero != 3,
            f"{shape.experts} experts do not divide by expert={self.expert}": shape.experts % self.expert != 0,
        }
        for what, wrong in broken.items():
            if wrong:
                raise JobError(f"the mesh does not fit the work: {what}", value=self.axes())

    def axes(self) -> dict[str, int]:
        """The axes with more than one rank."""
        names = ("data", "shard", "tensor", "pipeline", "context", "expert")
        return {name: getattr(self, name) for name in names if getattr(self, name) > 1}

    def text(self) -> str:
        """The mesh in a few words, for a table."""
        named = " ".join(f"{name}={size}" for name, size in self.axes().items()) or "one device"
        chunks = f" x{self.stages_per_rank}" if self.stages_per_rank > 1 else ""
        return f"{named}{chunks}"

    def with_axes(self, axes: Mapping[str, Any]) -> Layout:
        """The same with these fields."""
        return replace(self, **axes)
