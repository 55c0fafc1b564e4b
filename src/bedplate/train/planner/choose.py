"""The mesh of a job that says `mesh: auto`: the fastest that fits, of those that its code can run.

Does not know: projects, pools, or where a device's figures come from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bedplate.core.device import Device
from bedplate.core.errors import JobError
from bedplate.train.mesh import AXES, Mesh
from bedplate.train.planner.layout import Cluster, Work
from bedplate.train.planner.search import Found, search
from bedplate.train.planner.step import Prediction

WORTH_IT: Final = 0.05  # a mesh must be faster than a simpler one by this share
_COUNTED: Final = ("data", "shard", "tensor", "pipeline", "context")


@dataclass(frozen=True)
class Choice:
    """A mesh as `train.mesh.Mesh.of` takes it, why it was chosen, and what is predicted; None where nothing is known of the model."""

    mesh: Mapping[str, Any]
    why: tuple[str, ...]
    prediction: Prediction | None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping: the mesh, the reasons, seconds of a step, bytes on a device, tokens a second."""
        found: dict[str, Any] = {"mesh": dict(self.mesh), "why": list(self.why)}
        if self.prediction is not None:
            rate = self.prediction.tokens_per_s_per_device * self.prediction.layout.devices
            memory = self.prediction.memory.total_bytes
            found |= {"step_s": self.prediction.time.total_s, "memory_bytes": memory, "tokens_per_s": rate}
        return found


def choose_mesh(work: Work | None, workers: int, device: Device, runs: Collection[str], *, recompute: str, accumulate: int) -> Choice:
    """The mesh for `workers` ranks, each on one `device`.

    `runs` are the axes that the code can run, `accumulate` the micro-batches into which it cuts a batch, `recompute` what it does of
    activation checkpointing. Without `work` nothing is known of the model, and every rank holds a copy of it.
    Raises JobError where no such mesh fits in memory, or where none divides the work.
    """
    if work is None:
        return Choice({"data": workers}, ("the job declares no architecture, so every worker has a copy of the model",), None)
    for axis in runs:
        if axis not in AXES:
            raise JobError("a mesh has no such axis", value=axis)
    found = search(work, Cluster(device, workers), {**_settled(runs), "recompute": recompute, "rounds": accumulate}, most=1 << 20)
    fitting = [each for each in found.best if _divides(work, each)]
    if not fitting:
        raise _nothing_fits(work, workers, device, found, runs)
    chosen = _simplest(fitting)
    layout = chosen.layout
    mesh = {axis: getattr(layout, axis) for axis in _COUNTED if getattr(layout, axis) > 1} or {"data": 1}
    if layout.pipeline > 1:
        mesh["micro_batches"] = max(layout.pipeline, layout.micro_batches(work.batch))
    Mesh.of(mesh, workers)  # what the run would refuse is refused here
    return Choice(mesh, tuple(_reasons(chosen, found)), chosen)


def _settled(runs: Collection[str]) -> dict[str, Any]:
    """Axes that the code cannot run have one rank; copies hold the whole optimizer; an interleaved pipeline is for a user to name."""
    settled: dict[str, Any] = {axis: 1 for axis in ("tensor", "pipeline", "context") if axis not in runs}
    if "shard" not in runs:
        settled["shard"] = 1
    return {**settled, "expert": 1, "stages_per_rank": 1, "plain": 0}


def _divides(work: Work, one: Prediction) -> bool:
    """Whether plans of models can cut it: tensor ranks divide key-value heads, inner width and vocabulary as well."""
    shape, layout = work.shape, one.layout
    numbers = (shape.kv_heads, shape.ffn, shape.vocab)
    whole = work.batch // layout.replicas >= (layout.pipeline if layout.pipeline > 1 else 1)
    return whole and all(number % layout.tensor == 0 for number in numbers)


def _simplest(fitting: list[Prediction]) -> Prediction:
    """Copies of the whole model, else the mesh with the fewest axes, among those that are nearly as fast as the fastest."""
    least = fitting[0].tokens_per_s_per_device * (1 - WORTH_IT)
    near = [each for each in fitting if each.tokens_per_s_per_device >= least]
    return min(near, key=lambda each: (each.layout.sharded, len(each.layout.axes()), -each.tokens_per_s_per_device))


def _reasons(chosen: Prediction, found: Found) -> list[str]:
    need, limit = chosen.memory.total_bytes / 2**30, found.limit_bytes / 2**30
    why = [f"{chosen.layout.text()} needs {need:.2g} GiB of {limit:.2g} a worker, {chosen.time.total_s:.3g} s a step (predicted)"]
    copies = replace(chosen.layout, data=chosen.layout.devices, shard=1, tensor=1, pipeline=1, context=1).axes()
    for loser in found.losers:
        if loser.layout.axes() == copies and chosen.layout.axes() != copies:
            why.append(f"copies of the whole model: {loser.why}")
    return why


def _nothing_fits(work: Work, workers: int, device: Device, found: Found, runs: Collection[str]) -> JobError:
    least = min((loser for loser in found.losers if loser.short_bytes), key=lambda loser: loser.short_bytes, default=None)
    what = f"no mesh of {workers} workers that this code can run holds {work.shape.name} on {device.name}"
    lacking = (
        f"let `architecture.axes` name more than {', '.join(sorted(runs))} if the code runs them, raise `accumulate`, or give more workers"
    )
    return JobError(what, value=None if least is None else f"{least.layout.text()}: {least.why}", fix=lacking)
