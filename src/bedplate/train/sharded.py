"""A model that no rank holds whole: sharded (FSDP2), cut into tensors, cut into stages, or all of them.

Axes with more than one rank become the dimensions of a DeviceMesh. Does not know: which mesh is good, batches, or files.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.distributed._composable.replicate_with_fsdp import replicate
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from bedplate.core.errors import JobError
from bedplate.train import gradients
from bedplate.train.execution import Execution, apply, blocks_in, checked_loss, micro_batches
from bedplate.train.mesh import Mesh
from bedplate.train.parallel import LossFunction, reseed
from bedplate.train.plan import Plan, plan_of
from bedplate.train.stages import holders, part_of, stage_of
from bedplate.train.tensor import check_divided, share
from bedplate.train.tied import TiedEnds, shown, tied_ends
from bedplate.train.validation import resting
from bedplate.train.values import Whole, built, deal, gathered, reshard, tie

SPLIT_BACKWARD = ("InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")  # gradients of inputs first, of weights later


class Sharded:
    """Builds a model under a mesh and drives it. One model a run."""

    meets_to_clip = True

    def __init__(self, mesh: Mesh, rank: int, device: torch.device, execution: Execution, seed: int) -> None:
        """Raises JobError for a mesh that cannot be run. Every rank calls this: groups are made."""
        _check(mesh, execution)
        _quieten(mesh)
        self.mesh = mesh
        self._at = mesh.coordinates(rank)
        self._rank = rank
        self._device = device
        self._execution = execution
        self._seed = seed
        self._devices = init_device_mesh(device.type, tuple(mesh.sizes.values()), mesh_dim_names=tuple(mesh.sizes))
        self._whole: Whole | None = None
        self._model: nn.Module | None = None
        self._plan: Plan | None = None
        self._pipeline: Any = None
        self._tied: TiedEnds | None = None
        self.waited_s = 0.0
        self._holders: dict[str, int] = {}

    def build(self, build: Callable[[], nn.Module]) -> nn.Module:
        """Structure on the meta device, cut, then filled piece by piece with the values that rank 0 drew (see `values`)."""
        self._whole = whole = built(build, with_values=self._rank == 0)
        if self.mesh.tensor > 1 or self.mesh.pipeline > 1:
            self._plan = plan_of(whole.module)
        if self.mesh.tensor > 1:
            assert self._plan is not None
            check_divided(self._plan, self.mesh.tensor)
        model = self._cut(whole) if self.mesh.pipeline > 1 else self._prepared(whole.module)
        deal(model, whole, self._device)
        self._whole, self._model = replace(whole, values=None), model
        reseed(self._seed, self.mesh.batch_rank(self._rank))
        return model

    def backward(self, model: nn.Module, loss_function: LossFunction, batch: Any, drawn: Callable[[], None]) -> torch.Tensor:
        """The mean over this rank's samples; under a pipeline the same on all of its ranks."""
        if self._pipeline is not None:
            assert self._tied is not None
            self._tied.bring()
            pipeline_loss: torch.Tensor = self._pipeline.backward(loss_function, batch)
            self._tied.add()
            self.waited_s = self._pipeline.waited_s
            drawn()
            return pipeline_loss
        count = self._execution.accumulate
        total = torch.zeros((), device=self._device)
        for number, micro_batch in enumerate(micro_batches(batch, count), 1):
            if isinstance(model, FSDPModule) and count > 1:
                model.set_requires_gradient_sync(number == count)
            loss = checked_loss(loss_function(model, micro_batch)) / count
            if number == count:
                drawn()
            loss.backward()  # type: ignore[no-untyped-call] # torch has no types for it
            total += loss.detach()
        return total

    def measure(self, model: nn.Module, loss_function: LossFunction, batch: Any) -> torch.Tensor:
        """Forward only; on every rank of a pipeline the same. What was gathered for it is given up."""
        if self._pipeline is not None:
            assert self._tied is not None
            self._tied.bring()
            measured: torch.Tensor = self._pipeline.measure(loss_function, batch)
            return measured
        with resting(model):
            loss = checked_loss(loss_function(model, batch))
        reshard(model)
        return loss

    def clip(self, parameters: Iterable[torch.Tensor], limit: float) -> torch.Tensor:
        """One all-reduce of one number over all ranks."""
        return gradients.clip(parameters, limit, self.mesh.world_size // self.mesh.pipeline)

    def weights(self, model: nn.Module) -> dict[str, torch.Tensor] | None:
        """Gathered from the ranks that share rank 0's copy, one tensor at a time."""
        if self._whole is None or model is not self._model:
            return dict(model.state_dict()) if self._rank == 0 else None  # one of the user's own, whole on every rank
        at = self._at
        found: dict[str, torch.Tensor] = {}
        if at.data == 0:
            group = self._devices["pipeline"].get_group() if self.mesh.pipeline > 1 else None
            first_column = at.shard == at.context == at.tensor == 0
            found = gathered(model, self._whole, self._holders, group, first_column=first_column)
        return found if self._rank == 0 else None

    def _prepared(self, model: nn.Module) -> nn.Module:
        self._share(model)
        self._finish(model)
        return model

    def _cut(self, whole: Whole) -> nn.Module:
        plan, mesh = self._plan, self.mesh
        assert plan is not None
        tied = tied_ends(whole, plan)
        self._holders = holders(whole.module, plan, mesh, [entry.name for entry in whole.entries])
        numbers = mesh.stages_of(self._at.pipeline)
        part = part_of(whole.module, plan, numbers, mesh.stages)
        self._share(part)
        stages = {number: stage_of(part, whole.module, plan, number, mesh.stages) for number in numbers}
        for stage in stages.values():
            self._finish(stage)
        pipeline: Any = importlib.import_module("bedplate.train.pipeline")
        micro_batch_count = mesh.pipeline_micro_batches * self._execution.accumulate
        self._pipeline = pipeline.Pipeline(mesh, stages, self._devices["pipeline"], self._device, micro_batch_count, plan.answer)
        self._tied = TiedEnds(part, tied, mesh, self._devices["pipeline"].get_group())
        part = shown(part, tied)
        part.forward = _not_alone
        return part

    def _share(self, model: nn.Module) -> None:
        if self.mesh.tensor > 1:
            assert self._plan is not None and self._whole is not None
            share(model, self._plan, self._devices["tensor"])
            if self.mesh.pipeline == 1:
                tie(model, self._whole.entries)

    def _finish(self, model: nn.Module) -> None:
        """From the meta device to this rank's own, with everything around it that is not a tensor's business."""
        apply(self._execution, model, self._device)
        wrap = self._wrapper()
        if wrap is not None:
            for block in blocks_in(model):
                wrap(block)
            wrap(model)
        model.to_empty(device=self._device)

    def _wrapper(self) -> Callable[[nn.Module], Any] | None:
        mesh = self.mesh
        if mesh.data == mesh.shard == 1:
            return None
        bfloat16 = self._execution.precision == "bf16"
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if bfloat16 else MixedPrecisionPolicy()
        if mesh.shard == 1:
            return lambda module: replicate(module, mesh=self._devices["data"], mp_policy=policy)
        over: DeviceMesh = self._devices["data", "shard"] if mesh.data > 1 else self._devices["shard"]
        free_early = mesh.pipeline == 1  # micro-batches follow one another too soon for it to be worth while
        return lambda module: fully_shard(module, mesh=over, mp_policy=policy, reshard_after_forward=free_early)


def _check(mesh: Mesh, execution: Execution) -> None:
    if mesh.context > 1:
        raise JobError("context parallelism cannot be run yet", value=mesh.context, fix="use `context: 1`, and `tensor` for long sequences")
    if (
        mesh.pipeline > 1
        and execution.activation_checkpointing
        and mesh.schedule in ("InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")
    ):
        fix = "use 1F1B, Interleaved1F1B, LoopedBFS or GPipe, or leave activation_checkpointing out"
        raise JobError("a schedule that splits the backward pass cannot recompute activations", value=mesh.schedule, fix=fix)


def _quieten(mesh: Mesh) -> None:
    """Two warnings of torch are about what is done here on purpose, at every step or every save."""
    if mesh.tensor > 1:  # logits that were brought together are a view
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)
        logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # weights are gathered axis by axis


def _not_alone(*args: Any, **kwargs: Any) -> Any:  # noqa: ARG001 - the form of any forward
    raise JobError("a part of a pipeline cannot answer alone", fix="compute losses with run.backward(loss_function, batch)")
