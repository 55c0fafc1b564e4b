"""What a step needs of machines, and how the workers of a job share its model.

Does not know: what machines there are (`hardware`) or which mesh is best (`train.planner`).
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bedplate.core.spec.base import Declared

Schedule = Literal["GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"]
SPLIT_BACKWARD = ("InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")  # gradients of inputs first, of weights later
AxisSize = Annotated[int, Field(ge=1)] | Literal["auto"]


class Resources(Declared):
    """What a step needs. `workers` is the world size, or a range "2..8"; `cpus`, `memory_gb` and `accelerators` (a count or a range "0..1",
    with or without a type: "v5e:8") are per worker. A range of workers is kept as its least, `workers`, and its most, `most_workers`.
    """

    workers: int = Field(default=1, ge=1, le=4096)
    most_workers: int | None = Field(default=None, ge=1, le=4096)
    cpus: float = Field(default=1.0, gt=0)
    memory_gb: float = Field(default=0.0, ge=0)
    accelerators: str = "0"

    @model_validator(mode="before")
    @classmethod
    def _workers_range(cls, values: Any) -> Any:
        written = values.get("workers") if isinstance(values, dict) else None
        match = re.fullmatch(r"(\d+)\.\.(\d+)", written) if isinstance(written, str) else None
        return {**values, "workers": int(match.group(1)), "most_workers": int(match.group(2))} if match else values

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.most_workers is not None and self.most_workers < self.workers:
            raise ValueError("write the range of workers from the least to the most, for example 2..8")
        return self

    def worker_range(self) -> tuple[int, int]:
        """The least and the most workers."""
        return self.workers, self.most_workers or self.workers

    @field_validator("accelerators", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("accelerators")
    @classmethod
    def _range(cls, value: str) -> str:
        match = re.fullmatch(r"(?:[A-Za-z][\w.-]*:)?(\d+)(?:\.\.(\d+))?", value)
        if match is None or int(match.group(1)) > int(match.group(2) or match.group(1)):
            raise ValueError("write a count, a range or a type with one of them, for example 1, 0..1 or v5e:8")
        return value

    @property
    def accelerator_type(self) -> str:
        """The type that `accelerators` names (`v5e` of `v5e:8`), or the empty string for any."""
        return self.accelerators.rpartition(":")[0]

    def accelerator_range(self) -> tuple[int, int]:
        """The least and the most accelerators a worker can use."""
        low, _, high = self.accelerators.rpartition(":")[2].partition("..")
        return int(low), int(high or low)


class MeshAxes(Declared):
    """How the workers of a job share its model: ranks on each axis. `data` takes what the others leave; those that say `auto` are planned.

    `schedule` and `micro_batches` are of a pipeline.
    """

    data: AxisSize | None = None
    shard: AxisSize = 1
    tensor: AxisSize = 1
    pipeline: AxisSize = 1
    context: int = Field(default=1, ge=1)
    schedule: Schedule = "1F1B"
    micro_batches: int | None = Field(default=None, ge=1)

    @property
    def settled(self) -> dict[str, int]:
        """The axes whose size is declared; all but `data` have one."""
        named = {axis: getattr(self, axis) for axis in ("data", "shard", "tensor", "pipeline", "context")}
        return {axis: size for axis, size in named.items() if isinstance(size, int)}

    @property
    def planned(self) -> tuple[str, ...]:
        """The axes that are left to the planner."""
        return tuple(axis for axis in ("data", "shard", "tensor", "pipeline") if getattr(self, axis) == "auto")

    @property
    def ranks(self) -> int:
        """The product of the settled axes."""
        return math.prod(self.settled.values())


class Architecture(Declared):
    """What the planner must know of a decoder-only transformer to choose a mesh for it.

    `sequence` is the length of a sample in tokens, `batch` the samples of a step over all workers. `axes` are those of a mesh that the
    job's code can run: `data` and `shard` take any module, `tensor` and `pipeline` need a model that names its plan.
    """

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    ffn: int | None = Field(default=None, ge=1)
    vocab: int = Field(ge=1)
    sequence: int = Field(ge=1)
    batch: int = Field(ge=1)
    gated: bool = True
    tied: bool = False
    axes: tuple[Literal["data", "shard", "tensor", "pipeline"], ...] = ("data", "shard")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.hidden % self.heads or (self.kv_heads and self.heads % self.kv_heads):
            raise ValueError("`hidden` must divide by `heads`, and `heads` by `kv_heads`")
        return self
