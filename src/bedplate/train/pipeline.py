"""Driving a pipeline: torch's schedules, with the user's own loss function.

The loss function calls the model once, like any other. The first stage learns from it what the model is called with: it is run up to that
call on the whole batch. The last stage runs it whole for each micro-batch, with a model that answers with what came out of the pipeline.
Does not know: how stages were cut, data or tensor parallelism.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import PipelineScheduleMulti, get_schedule_class

from bedplate.core.errors import JobError
from bedplate.train.execution import checked_loss, micro_batches
from bedplate.train.mesh import Mesh
from bedplate.train.validation import resting
from bedplate.train.values import reshard

LossFunction = Callable[[nn.Module, Any], torch.Tensor]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
HEAD = 8  # numbers that tell a tensor's kind and shape, at most six dimensions


class Pipeline:
    """This rank's stages, driven by a schedule. Shapes are learned from the first batch, and anew when they change."""

    def __init__(
        self,
        mesh: Mesh,
        stages: Mapping[int, nn.Module],
        ranks: DeviceMesh,
        device: torch.device,
        micro_batch_count: int,
        answer: Callable[[torch.Tensor], Any],
    ) -> None:
        """`stages` by number; `ranks` has the one dimension `pipeline`; `answer` makes the model's answer of the last stage's tensor."""
        self._mesh = mesh
        self._rank_of = {number: rank for rank in range(mesh.pipeline) for number in mesh.stages_of(rank)}
        self._stages = dict(stages)
        self._group = ranks.get_group()
        self._device = device
        self._count = micro_batch_count
        self._answer = answer
        self._schedule: Any = None
        self._shape: tuple[Any, ...] = ()
        self._loss_function: LossFunction | None = None
        self._batches: list[Any] = []
        self._computed_s = 0.0
        self.waited_s = 0.0  # of the last backward: its time without that of this rank's own stages

    def backward(self, loss_function: LossFunction, batch: Any) -> torch.Tensor:
        """One pass of all micro-batches; returns their mean loss, on every rank of the pipeline.

        The loss is sent from the rank that has it (one number): a decision taken on it, such as to stop, is then the same everywhere.
        Raises JobError for a batch that cannot be cut, and for a model that is called with anything but one tensor.
        """
        inputs = model_inputs(loss_function, batch)
        self._loss_function, self._batches = loss_function, list(micro_batches(batch, self._count))
        numbers = torch.arange(self._count)
        args = (inputs,) if 0 in self._stages else ()
        self._prepare(inputs, args, numbers)
        losses: list[torch.Tensor] = []
        self._computed_s, begun_s = 0.0, time.perf_counter()
        self._schedule.step(*args, target=numbers if self._has_last else None, losses=losses, return_outputs=False)
        self._batches = []
        loss = torch.stack([each.detach() for each in losses]).mean() if losses else torch.zeros((), device=self._device)
        dist.broadcast(loss, group=self._group, group_src=self._mesh.loss_rank)
        self.waited_s = max(0.0, time.perf_counter() - begun_s - self._computed_s)
        return loss

    def measure(self, loss_function: LossFunction, batch: Any) -> torch.Tensor:
        """The mean loss of a batch, forward only, on every rank of the pipeline: one stage behind the other, whatever the schedule."""
        inputs = model_inputs(loss_function, batch)
        loss, stream = torch.zeros((), device=self._device), inputs
        with resting(*self._stages.values()):
            for number, stage in sorted(self._stages.items()):
                if number > 0 and number - 1 not in self._stages:
                    stream = self._received(number - 1)
                stream = stage(stream)
                if number + 1 < self._mesh.stages and number + 1 not in self._stages:
                    self._sent(stream, number + 1)
            if self._has_last:
                loss = checked_loss(loss_function(Answering(self._answer(stream)), batch)).detach().reshape(())
        reshard(*self._stages.values())
        sent = loss.to(torch.float64)
        dist.broadcast(sent, group=self._group, group_src=self._mesh.loss_rank)
        return sent

    def _sent(self, tensor: torch.Tensor, stage: int) -> None:
        """Its kind and shape first: batches at the end of a split are smaller."""
        sizes = [DTYPES.index(tensor.dtype), tensor.dim(), *tensor.shape]
        head = torch.tensor([*sizes, *(0,) * (HEAD - len(sizes))], device=self._device)
        for each in (head, tensor.contiguous()):
            dist.send(each, group=self._group, group_dst=self._rank_of[stage])

    def _received(self, stage: int) -> torch.Tensor:
        head = torch.empty(HEAD, dtype=torch.int64, device=self._device)
        dist.recv(head, group=self._group, group_src=self._rank_of[stage])
        kind, dimensions, *sizes = head.tolist()
        tensor = torch.empty(sizes[:dimensions], dtype=DTYPES[kind], device=self._device)
        dist.recv(tensor, group=self._group, group_src=self._rank_of[stage])
        return tensor

    @property
    def _has_last(self) -> bool:
        return self._mesh.stages - 1 in self._stages

    def _prepare(self, inputs: torch.Tensor, args: tuple[torch.Tensor, ...], numbers: torch.Tensor) -> None:
        """Make the schedule for inputs of this shape. Learning the shapes between stages runs them once: random numbers are put back."""
        shape = (inputs.shape, inputs.dtype)
        if shape == self._shape:
            return
        self._shape = shape
        self._schedule = self._made()
        cpu = torch.get_rng_state()
        device = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        parts, keywords = self._schedule._split_inputs(args, {})
        targets = list(numbers[:, None])
        if isinstance(self._schedule, PipelineScheduleMulti):
            for stage in self._schedule._stages:
                stage.has_backward = True
            self._schedule._initialize_stages(parts[0], keywords[0], targets[0] if self._has_last else None)
        else:
            self._schedule._stage.has_backward = True
            self._schedule._initialize_stage(parts[0], keywords[0], targets[0] if self._has_last else None)
        torch.set_rng_state(cpu)
        if device is not None:
            torch.cuda.set_rng_state(device, self._device)

    def _made(self) -> Any:
        kind: Any = get_schedule_class(self._mesh.schedule)
        stages = [
            PipelineStage(module, number, self._mesh.stages, self._device, group=self._group)
            for number, module in sorted(self._stages.items())
        ]
        for stage in stages:
            for name in ("forward_one_chunk", "backward_one_chunk", "backward_weight_one_chunk"):
                setattr(stage, name, self._timed(getattr(stage, name)))
        given = stages if issubclass(kind, PipelineScheduleMulti) else stages[0]
        return kind(given, n_microbatches=self._count, loss_fn=self._loss)

    def _timed(self, computes: Callable[..., Any]) -> Callable[..., Any]:
        """The same, counted as this rank's own work; what a schedule does besides is sending, receiving and waiting."""

        def timed(*args: Any, **keywords: Any) -> Any:
            begun_s = time.perf_counter()
            try:
                return computes(*args, **keywords)
            finally:
                self._computed_s += time.perf_counter() - begun_s

        return timed

    def _loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The user's loss of one micro-batch; `target` holds its number (anything, while shapes are learned)."""
        number = int(target)
        micro_batch = self._batches[number if 0 <= number < self._count else 0]
        assert self._loss_function is not None
        loss = checked_loss(self._loss_function(Answering(self._answer(output)), micro_batch))
        return loss.sum()  # no view: a schedule that splits the backward pass detaches it in place


class _Called(BaseException):
    """Carries what the model was called with out of the loss function."""

    def __init__(self, inputs: torch.Tensor) -> None:
        self.inputs = inputs


class _Asking(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Take what the model is called with."""
        given = [*args, *kwargs.values()]
        if len(given) != 1 or not isinstance(given[0], torch.Tensor):
            kinds = [type(each).__name__ for each in given]
            raise JobError("under a pipeline a model is called with one tensor", value=kinds, fix="call it as model(tokens)")
        raise _Called(given[0])


class Answering(nn.Module):
    """Stands in for the model in a loss function, when its answer is already there."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answers = [answer]

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - whatever the model is called with
        """The answer, once."""
        if not self._answers:
            raise JobError("under a pipeline a loss function may call the model only once", fix="join the inputs into one call")
        return self._answers.pop()


def model_inputs(loss_function: LossFunction, batch: Any) -> torch.Tensor:
    """What a loss function calls the model with. Raises JobError when it does not call it."""
    try:
        loss_function(_Asking(), batch)
    except _Called as called:
        return called.inputs
    raise JobError("the loss function does not call the model", fix="compute model(...) in it, from the batch that it is given")
