"""The mesh of a job that says `mesh: auto`: the fastest that fits, of those that its code can run.

Does not know: projects, pools, or where a device's figures come from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bedplate.core.device import Device
from bedplate.core.errors import JobError
from bedplate.train.mesh import AXES, STAGES_PER_RANK, Mesh
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.search import Found, Loser, search
from bedplate.train.planner.step import Prediction

WORTH_IT: Final = 0.05  # a mesh must be faster than a simpler one by this share
OTHERS: Final = 8  # so many meshes that were not chosen are told
_COUNTED: Final = ("data", "shard", "tensor", "pipeline", "context")


@dataclass(frozen=True)
class Code:
    """What the code of a job can run, and what its declaration settles.

    `runs` are axes, `accumulate` the micro-batches into which it cuts a batch, `recompute` what it does of activation checkpointing.
    `settled` are sizes of axes, `schedule` and `micro_batches` those of a pipeline, None for what the planner may choose.
    """

    runs: Collection[str]
    recompute: str = "none"
    accumulate: int = 1
    settled: Mapping[str, int] = field(default_factory=dict)
    schedule: str = "1F1B"
    micro_batches: int | None = None


@dataclass(frozen=True)
class Choice:
    """A mesh as `train.mesh.Mesh.of` takes it, why it was chosen, what is predicted (None where nothing is known of the model), and of
    the nearest of the other meshes why they were not."""

    mesh: Mapping[str, Any]
    why: tuple[str, ...]
    prediction: Prediction | None
    others: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping: the mesh, the reasons, why others lose, seconds of a step, bytes on a device, tokens a second."""
        found: dict[str, Any] = {"mesh": dict(self.mesh), "why": list(self.why)}
        if self.others:
            found["others"] = dict(self.others)
        if self.prediction is not None:
            rate = self.prediction.tokens_per_s_per_device * self.prediction.layout.devices
            memory = self.prediction.memory.total_bytes
            found |= {"step_s": self.prediction.time.total_s, "memory_bytes": memory, "tokens_per_s": rate}
        return found


def choose_mesh(work: Work | None, workers: int, device: Device, code: Code) -> Choice:
    """The mesh for `workers` ranks, each on one `device`. Without `work` nothing is known of the model, and every rank holds a copy of it.

    Raises JobError where no such mesh fits in memory, or where none divides the work.
    """
    if work is None:
        return _uninformed(workers, code)
    for axis in code.runs:
        if axis not in AXES:
            raise JobError("a mesh has no such axis", value=axis)
    found = search(work, Cluster(device, workers), _settled(code), most=1 << 20)
    fitting = [each for each in found.best if _undivided(work, each.layout) is None]
    if not fitting:
        raise _nothing_fits(work, workers, device, found, code)
    chosen = _simplest(fitting)
    mesh = _mesh(chosen.layout, work, code)
    Mesh.of(mesh, workers)  # what the run would refuse is refused here
    return Choice(mesh, tuple(_reasons(chosen, found, work, code)), chosen, tuple(_others(chosen, found, work)))


def _uninformed(workers: int, code: Code) -> Choice:
    rest, left = divmod(workers, math.prod(size for axis, size in code.settled.items() if axis != "data"))
    if left or code.settled.get("data", rest) != rest:
        fix = "declare the job's `architecture`, or the sizes of the axes"
        raise JobError("without an architecture only `data` can be left to the planner", value=dict(code.settled), fix=fix)
    mesh = {**{axis: size for axis, size in code.settled.items() if size > 1}, "data": rest}
    if "pipeline" in mesh:
        mesh |= _driven(code, code.micro_batches)
    Mesh.of(mesh, workers)
    who = "every worker" if not any(size > 1 for size in code.settled.values()) else "each group of workers"
    return Choice(mesh, (f"the job declares no architecture, so {who} has a copy of the model",), None)


def _mesh(layout: Layout, work: Work, code: Code) -> dict[str, Any]:
    mesh: dict[str, Any] = {axis: getattr(layout, axis) for axis in _COUNTED if getattr(layout, axis) > 1} or {"data": 1}
    if layout.pipeline > 1:
        mesh |= _driven(code, layout.micro_batches(work.batch) // code.accumulate)
    return mesh


def _driven(code: Code, micro_batches: int | None) -> dict[str, Any]:
    """The fields of a mesh that only a pipeline has, but for what is usual."""
    schedule = {"schedule": code.schedule} if code.schedule != "1F1B" else {}
    return {**schedule, **({"micro_batches": micro_batches} if micro_batches is not None else {})}


def _settled(code: Code) -> dict[str, Any]:
    """Axes that the code cannot run have one rank; copies hold the whole optimizer; an interleaved pipeline is for a user to name."""
    settled: dict[str, Any] = {axis: 1 for axis in ("shard", "tensor", "pipeline", "context") if axis not in code.runs}
    pipelined = {"stages_per_rank": STAGES_PER_RANK[code.schedule], "least": 2 if code.schedule == "DualPipeV" else 1}
    if code.micro_batches is not None:
        pipelined["micro_batches"] = code.micro_batches
    return {**settled, **code.settled, **pipelined, "expert": 1, "plain": 0, "recompute": code.recompute, "rounds": code.accumulate}


def _undivided(work: Work, layout: Layout) -> str | None:
    """Why plans of models cannot cut it: tensor ranks divide key-value heads, inner width and vocabulary as well; a stage has a layer."""
    shape, stages = work.shape, layout.pipeline * layout.stages_per_rank
    numbers = {"key-value heads": shape.kv_heads, "inner width": shape.ffn, "vocabulary": shape.vocab}
    for what, number in numbers.items():
        if number % layout.tensor:
            return f"{layout.tensor} tensor ranks cannot share the {what}, {number}"
    return f"{shape.layers} layers are too few for {stages} stages" if shape.layers < stages else None


def _simplest(fitting: list[Prediction]) -> Prediction:
    """Copies of the whole model, else the mesh with the fewest axes, among those that are nearly as fast as the fastest."""
    least = fitting[0].tokens_per_s_per_device * (1 - WORTH_IT)
    near = [each for each in fitting if each.tokens_per_s_per_device >= least]
    return min(near, key=lambda each: (each.layout.sharded, len(each.layout.axes()), -each.tokens_per_s_per_device))


def _reasons(chosen: Prediction, found: Found, work: Work, code: Code) -> list[str]:
    need, limit = chosen.memory.total_bytes / 2**30, found.limit_bytes / 2**30
    why = [f"{chosen.layout.text()} needs {need:.2g} GiB of {limit:.2g} a worker, {chosen.time.total_s:.3g} s a step (predicted)"]
    ranks = chosen.layout.devices
    copies = replace(chosen.layout, data=ranks, shard=1, tensor=1, pipeline=1, context=1).axes()
    if chosen.layout.axes() != copies:
        lost = [_why_not(loser, work) for loser in found.losers if loser.layout.axes() == copies]
        if work.batch % (ranks * code.accumulate):
            lost = [f"{work.batch} sequences cannot be dealt to {ranks} workers in equal micro-batches"]
        why += [f"copies of the whole model: {reason}" for reason in lost]
    return why


def _others(chosen: Prediction, found: Found, work: Work) -> list[tuple[str, str]]:
    """The meshes that were looked at, the fastest first, then those that fit least badly."""
    fast = {each.layout: each for each in found.best}
    rest = [loser for loser in found.losers if loser.layout != chosen.layout]
    told = [(loser.layout.text(), _why_not(loser, work)) for loser in rest]
    best = found.best[0].layout
    if best != chosen.layout:  # the fastest is no loser of the search
        within = f"no more than {WORTH_IT:.0%} faster, and less simple"
        told.insert(0, (fast[best].layout.text(), _undivided(work, best) or within))
    return told[:OTHERS]


def _why_not(loser: Loser, work: Work) -> str:
    return _undivided(work, loser.layout) or loser.why


def _nothing_fits(work: Work, workers: int, device: Device, found: Found, code: Code) -> JobError:
    least = min((loser for loser in found.losers if loser.short_bytes), key=lambda loser: loser.short_bytes, default=None)
    what = f"no mesh of {workers} workers that this code can run holds {work.shape.name} on {device.name}"
    lacking = (
        f"let `architecture.axes` name more than {', '.join(sorted(code.runs))} if the code runs them, raise `accumulate`, or give more"
        " workers"
    )
    return JobError(what, value=None if least is None else f"{least.layout.text()}: {least.why}", fix=lacking)
