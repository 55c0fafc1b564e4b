"""Tensor parallelism: what the styles of a plan mean in DTensors.

A module without a style is computed whole on every rank, on its local copy. Does not know: which model has which plan, or other axes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from bedplate.core.errors import JobError
from bedplate.train.plan import Plan, Style


def check_divided(plan: Plan, size: int) -> None:
    """Raises JobError where `size` tensor ranks cannot share a model of that plan."""
    if not plan.tensor:
        raise JobError("the model's plan names no tensors to share", fix="use `data`, `shard` or `pipeline`")
    for what, number in plan.divided.items():
        if number % size:
            raise JobError(f"{size} tensor ranks cannot share the {what}", value=number, fix="choose a `tensor` that divides it")


def share(part: nn.Module, plan: Plan, mesh: DeviceMesh) -> None:
    """Make every parameter of `part` a DTensor over `mesh`, which has one dimension, and have its modules compute accordingly."""
    for name, module in list(part.named_modules()):
        style = _style_of(name, plan)
        if style is None or style == "head_norm":
            if not list(module.children()) and list(module.parameters(recurse=False)):
                _keep_whole(module, mesh, heads_apart=style == "head_norm")
        elif not isinstance(module, nn.Identity):  # what a stage has in the place of a module of another
            parallelize_module(module, mesh, _torch_style(style))


def _style_of(name: str, plan: Plan) -> Style | None:
    return next((style for pattern, style in _patterns(plan) if pattern.fullmatch(name)), None)


def _patterns(plan: Plan) -> Iterator[tuple[re.Pattern[str], Style]]:
    for pattern, style in plan.tensor.items():
        yield re.compile(re.escape(pattern).replace(r"\*", r"\d+")), style


def _torch_style(style: Style) -> ParallelStyle:
    if style == "embedding":
        return RowwiseParallel(input_layouts=Replicate())
    if style == "column":
        return ColwiseParallel()
    if style == "row":
        return RowwiseParallel()
    return ColwiseParallel(output_layouts=Replicate())


def _keep_whole(module: nn.Module, mesh: DeviceMesh, *, heads_apart: bool) -> None:
    """Parameters are DTensors, so that an optimizer sees one kind, and are computed with as plain tensors.

    With `heads_apart` each rank sees other heads, so gradients of the parameters are summed over the ranks.
    """
    for name, parameter in module.named_parameters(recurse=False):
        whole = distribute_tensor(parameter.detach(), mesh, [Replicate()], src_data_rank=None)
        module.register_parameter(name, nn.Parameter(whole, requires_grad=parameter.requires_grad))
    forward = module.forward

    def on_local_copies(*args: Any, **kwargs: Any) -> Any:
        owned = module._parameters
        module._parameters = {name: _local(each, heads_apart) for name, each in owned.items()}
        try:
            return forward(*args, **kwargs)
        finally:
            module._parameters = owned

    module.forward = on_local_copies  # hooks of other wrappers stay around it


def _local(parameter: nn.Parameter | None, heads_apart: bool) -> Any:
    if not isinstance(parameter, DTensor):
        return parameter
    if heads_apart:
        return parameter.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])
    return parameter.to_local()
