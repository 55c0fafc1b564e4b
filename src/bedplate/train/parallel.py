"""A model on the ranks of a run: built, run backward, its gradients cut, its weights brought together.

`parallel_for` chooses: one process or copies that share gradients (here), or a mesh that shares the model (`sharded`, loaded when it is
needed, because DTensors take a second to import). Does not know: batches, optimizers, or where weights are written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bedplate.train.execution import Execution, apply, checked_loss, micro_batches
from bedplate.train.mesh import Mesh
from bedplate.train.validation import resting

LossFunction = Callable[[nn.Module, Any], torch.Tensor]


class Parallel(Protocol):
    """What the run context asks of a mesh. Every rank calls the same in the same order."""

    @property
    def mesh(self) -> Mesh:
        """The ranks' layout."""

    @property
    def meets_to_clip(self) -> bool:
        """Whether ranks meet to learn the norm of all gradients."""

    @property
    def waited_s(self) -> float:
        """Seconds of the last `backward` in which this rank waited for others in a pipeline; 0 without one."""

    def build(self, build: Callable[[], nn.Module]) -> nn.Module:
        """The model, on the device and under the mesh, with the values that one process would give it."""

    def backward(self, model: nn.Module, loss_function: LossFunction, batch: Any, drawn: Callable[[], None]) -> torch.Tensor:
        """Compute the mean loss of this rank's samples and its gradients; returns it detached.

        `drawn` is called when all random numbers of the step are drawn, before the last part of its backward pass.
        """

    def measure(self, model: nn.Module, loss_function: LossFunction, batch: Any) -> torch.Tensor:
        """Compute the mean loss of this rank's samples without gradients, and with modules in the mode of evaluation."""

    def clip(self, parameters: Iterable[torch.Tensor], limit: float) -> torch.Tensor:
        """Scale gradients so that the norm of all of them, over all ranks, is at most `limit`; returns the norm before, on the device."""

    def weights(self, model: nn.Module) -> dict[str, torch.Tensor] | None:
        """The whole model's state dict on rank 0; None elsewhere."""


def parallel_for(mesh: Mesh, rank: int, device: torch.device, execution: Execution, seed: int) -> Parallel:
    """What builds and drives a model under `mesh`. Raises JobError for a mesh that cannot be run."""
    if mesh.pure_data:
        return Copies(mesh, rank, device, execution, seed)
    sharded: Any = importlib.import_module("bedplate.train.sharded")
    made: Parallel = sharded.Sharded(mesh, rank, device, execution, seed)
    return made


def reseed(seed: int, batch_rank: int) -> None:
    """Random numbers of their own for ranks with samples of their own; ranks that share samples draw the same."""
    torch.manual_seed((seed + 1) * 1_000_003 + batch_rank)


class SteadyCopies(DistributedDataParallel):
    """Buckets are laid out once, in the order of the backward pass, and not anew after the first step.

    So a resumed run sums gradients in the same order as one that was not stopped.
    """

    def _build_params_for_reducer(self) -> tuple[list[Any], list[Any]]:
        parameters, sparse = super()._build_params_for_reducer()  # type: ignore[no-untyped-call] # torch has no types for it
        return list(reversed(parameters)), list(reversed(sparse))


@dataclass(frozen=True)
class Copies:
    """Every rank has the whole model; DistributedDataParallel averages the gradients of several."""

    mesh: Mesh
    rank: int
    device: torch.device
    execution: Execution
    seed: int
    meets_to_clip: bool = False
    waited_s: float = 0.0

    def build(self, build: Callable[[], nn.Module]) -> nn.Module:
        """Every rank builds from the same seed, then goes on with random numbers of its own."""
        with self.device:
            module = build()
        module = module.to(self.device)
        apply(self.execution, module, self.device)
        if self.mesh.world_size == 1:
            return module
        indices = [self.device] if self.device.type == "cuda" else None
        wrapped = SteadyCopies(module, device_ids=indices, gradient_as_bucket_view=True)
        wrapped.reducer._push_all_rebuilt_params()  # what it would do after the first step
        wrapped.reducer._rebuild_buckets()
        reseed(self.seed, self.rank)
        return wrapped

    def backward(self, model: nn.Module, loss_function: LossFunction, batch: Any, drawn: Callable[[], None]) -> torch.Tensor:
        """Gradients of several micro-batches meet with the last."""
        count = self.execution.accumulate
        if count == 1:
            loss = checked_loss(loss_function(model, batch))
            drawn()
            loss.backward()  # type: ignore[no-untyped-call] # torch has no types for it
            return loss.detach()
        total = torch.zeros((), device=self.device)
        for number, micro_batch in enumerate(micro_batches(batch, count), 1):
            apart = isinstance(model, DistributedDataParallel) and number < count
            with model.no_sync() if apart else nullcontext():  # type: ignore[operator] # a DistributedDataParallel has it
                loss = checked_loss(loss_function(model, micro_batch)) / count
                if number == count:
                    drawn()
                loss.backward()  # type: ignore[no-untyped-call] # as above
            total += loss.detach()
        return total

    def measure(self, model: nn.Module, loss_function: LossFunction, batch: Any) -> torch.Tensor:
        """This rank alone."""
        whole = model.module if isinstance(model, DistributedDataParallel) else model
        with resting(whole):
            return checked_loss(loss_function(whole, batch))

    def clip(self, parameters: Iterable[torch.Tensor], limit: float) -> torch.Tensor:
        """Every rank has all gradients, averaged."""
        return nn.utils.clip_grad_norm_(parameters, limit)

    def weights(self, model: nn.Module) -> dict[str, torch.Tensor] | None:
        """Those of rank 0, which are those of all."""
        if self.rank != 0:
            return None
        whole = model.module if isinstance(model, DistributedDataParallel) else model
        found: dict[str, torch.Tensor] = whole.state_dict()
        return found
