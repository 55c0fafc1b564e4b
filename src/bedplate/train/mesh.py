"""The mesh: how the ranks of a run are laid out over the ways of being parallel. Pure arithmetic.

Ranks are numbered with `pipeline` outermost, then `data`, `shard`, `context`, and `tensor` innermost: neighbors speak most.
Does not know: torch, devices, or models (`parallel` builds them under a mesh).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from bedplate.core.errors import JobError, nearest

AXES: Final = ("pipeline", "data", "shard", "context", "tensor")  # from the outermost to the innermost
STAGES_PER_RANK: Final = {  # of each schedule: how many parts of the model one rank of a pipeline holds
    "GPipe": 1,
    "1F1B": 1,
    "Interleaved1F1B": 2,
    "LoopedBFS": 2,
    "InterleavedZeroBubble": 2,
    "ZBVZeroBubble": 2,
    "DualPipeV": 2,
}
V_SHAPED: Final = ("ZBVZeroBubble", "DualPipeV")  # rank r holds the stages r and 2p-1-r, so that first and last meet on rank 0
SETTINGS: Final = ("schedule", "micro_batches")


@dataclass(frozen=True)
class Coordinates:
    """Where one rank sits on each axis, counted from 0."""

    data: int
    shard: int
    pipeline: int
    context: int
    tensor: int


@dataclass(frozen=True)
class Mesh:
    """The number of ranks on each axis, and how a pipeline is driven.

    `data` ranks hold equal copies, `shard` ranks share one copy (FSDP), `tensor` ranks share each layer, `pipeline` ranks share the
    layers, `context` ranks share sequences. `micro_batches` are those of one backward through a pipeline; None chooses.
    """

    data: int = 1
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    schedule: str = "1F1B"
    micro_batches: int | None = None

    def __post_init__(self) -> None:
        """Raises JobError for what is no mesh."""
        for axis in AXES:
            if not _count(getattr(self, axis)):
                raise JobError(f"an axis of a mesh must be a whole number from 1 on: {axis}", value=getattr(self, axis))
        if self.schedule not in STAGES_PER_RANK:
            raise JobError("unknown schedule of a pipeline", value=self.schedule, fix=nearest(self.schedule, STAGES_PER_RANK))
        if self.micro_batches is not None and not _count(self.micro_batches):
            raise JobError("micro_batches must be a whole number from 1 on", value=self.micro_batches)
        if self.pipeline > 1 and self.micro_batches is not None:
            self._check_micro_batches(self.micro_batches)

    @staticmethod
    def of(spec: Mapping[str, Any] | None, world_size: int) -> Mesh:
        """The mesh that a job declares, for `world_size` ranks; an absent `data` takes what the other axes leave.

        Raises JobError for an unknown field, and where the axes do not multiply to the number of ranks.
        """
        given = dict(spec or {})
        known = [field.name for field in fields(Mesh)]
        for name in given:
            if name not in known:
                raise JobError("a mesh has no such axis", value=name, fix=nearest(name, known))
        if "data" not in given:
            rest = Mesh(**given).world_size
            given["data"] = max(1, world_size // rest)
        mesh = Mesh(**given)
        if mesh.world_size != world_size:
            product = " x ".join(f"{axis} {size}" for axis, size in mesh.sizes.items()) or "1"
            fix = f"let the axes multiply to {world_size}, or set `resources: {{workers: {mesh.world_size}}}`"
            raise JobError(
                f"the mesh {product} is for {mesh.world_size} ranks, and there are {world_size}", value=dict(spec or {}), fix=fix
            )
        return mesh

    @property
    def world_size(self) -> int:
        """How many ranks it has."""
        return math.prod(getattr(self, axis) for axis in AXES)

    @property
    def sizes(self) -> dict[str, int]:
        """The axes with more than one rank, from the outermost to the innermost."""
        return {axis: getattr(self, axis) for axis in AXES if getattr(self, axis) > 1}

    @property
    def pure_data(self) -> bool:
        """Whether every rank holds the whole model."""
        return self.world_size == self.data

    @property
    def stages_per_rank(self) -> int:
        """How many parts of the model a rank holds."""
        return STAGES_PER_RANK[self.schedule] if self.pipeline > 1 else 1

    @property
    def stages(self) -> int:
        """Into how many parts the model is cut."""
        return self.pipeline * self.stages_per_rank

    @property
    def pipeline_micro_batches(self) -> int:
        """Into how many parts a batch is cut on its way through a pipeline; 1 without one."""
        if self.pipeline == 1:
            return 1
        return self.micro_batches or 2 * self.pipeline

    @property
    def batch_ranks(self) -> int:
        """How many ranks get samples of their own; the others get the same as one of these."""
        return self.data * self.shard

    @property
    def batch_size_ranks(self) -> int:
        """The same as `batch_ranks`: by how many a batch size is divided."""
        return self.batch_ranks

    def coordinates(self, rank: int) -> Coordinates:
        """Where `rank` sits. Raises JobError for a rank that the mesh does not have."""
        if not 0 <= rank < self.world_size:
            raise JobError(f"a mesh of {self.world_size} ranks has no such rank", value=rank)
        found: dict[str, int] = {}
        for axis in reversed(AXES):
            rank, found[axis] = divmod(rank, getattr(self, axis))
        return Coordinates(**found)

    def batch_rank(self, rank: int) -> int:
        """Which of the `batch_ranks` parts of a batch `rank` works on."""
        at = self.coordinates(rank)
        return at.data * self.shard + at.shard

    def stages_of(self, pipeline_rank: int) -> tuple[int, ...]:
        """The numbers of the stages that a rank of the pipeline holds, ascending."""
        if self.stages_per_rank == 1:
            return (pipeline_rank,)
        if self.schedule in V_SHAPED:
            return (pipeline_rank, 2 * self.pipeline - 1 - pipeline_rank)
        return tuple(pipeline_rank + self.pipeline * turn for turn in range(self.stages_per_rank))

    @property
    def loss_rank(self) -> int:
        """The rank of the pipeline that holds the last stage, and so the loss."""
        return 0 if self.schedule in V_SHAPED or self.pipeline == 1 else self.pipeline - 1

    def to_json(self) -> dict[str, Any]:
        """A plain mapping that `of` takes."""
        return asdict(self)

    def _check_micro_batches(self, count: int) -> None:
        least = 2 * self.pipeline if self.schedule == "DualPipeV" else self.pipeline
        if count < least:
            raise JobError(f"a pipeline of {self.pipeline} with {self.schedule} needs more micro-batches", value=count, fix=f"use {least}")
        if self.schedule in ("Interleaved1F1B", "InterleavedZeroBubble") and count % self.pipeline:
            fix = f"use a multiple of {self.pipeline}"
            raise JobError(f"{self.schedule} deals micro-batches out in rounds", value=count, fix=fix)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
