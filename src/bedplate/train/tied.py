"""One parameter that the first and the last stage of a pipeline both compute with: tied embeddings.

It is the first stage's: the optimizer, the norm of gradients and checkpoints know it there, under both of its names. The last stage has a
copy that nobody else sees: it is brought the values before a pass, and its gradient is added to the first stage's behind it.
Does not know: schedules (`pipeline`), or how either stage's parameter is cut (both are cut alike).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from bedplate.core.errors import JobError
from bedplate.train.mesh import Mesh
from bedplate.train.plan import Plan
from bedplate.train.stages import without_parameter
from bedplate.train.values import Entry, Whole, has, put_at, tensor_at

META = torch.device("meta")


def tied_ends(whole: Whole, plan: Plan) -> dict[str, str]:
    """The names in the last stage, each with its name in the first. They are made two parameters of `whole`.

    Raises JobError for parameters that are tied in any other way.
    """
    found: dict[str, str] = {}
    for entry in whole.entries:
        for name in entry.tied:
            if not (_within(entry.name, plan.first) and _within(name, plan.last)):
                fix = "untie them, or tie one of the first stage to one of the last"
                raise JobError("a pipeline cannot hold these tied parameters", value=(entry.name, name), fix=fix)
            found[name] = entry.name
            put_at(whole.module, name, _copy(whole, entry))
    return found


class TiedEnds:
    """This rank's side of the parameters that both ends have; without any, or in the middle, nothing is done."""

    def __init__(self, part: nn.Module, names: Mapping[str, str], mesh: Mesh, group: Any) -> None:
        """`part` is what this rank holds, ready to be trained; `group` the pipeline's ranks."""
        self._pairs = [_held(part, first, last) for last, first in names.items()]
        self._group, self._last, self._rank = group, mesh.loss_rank, dist.get_rank(group)

    @torch.no_grad()
    def bring(self) -> None:
        """The copy of the last stage gets the values of the first."""
        for first, last in self._pairs:
            self._move(first, last, 0, self._last)

    @torch.no_grad()
    def add(self) -> None:
        """The gradient of the copy is added to that of the first stage's parameter, and is no more."""
        for first, last in self._pairs:
            copied = _gradient(last)
            if first is not None and first.requires_grad:
                first.grad = _gradient(first)
                assert first.grad is not None
                received = torch.empty_like(_local(first))
                self._move(copied, received, self._last, 0)
                _local(first.grad).add_(received)
            elif copied is not None:
                self._move(copied, None, self._last, 0)
            if last is not None:
                last.grad = None

    def _move(self, source: torch.Tensor | None, target: torch.Tensor | None, sender: int, receiver: int) -> None:
        if source is not None and target is not None:
            _local(target).copy_(_local(source))
        elif source is not None and self._rank == sender:
            dist.send(_local(source).contiguous(), group=self._group, group_dst=receiver)
        elif target is not None and self._rank == receiver:
            received = torch.empty_like(_local(target))
            dist.recv(received, group=self._group, group_src=sender)
            _local(target).copy_(received)


def shown(part: nn.Module, names: Mapping[str, str]) -> nn.Module:
    """The part as optimizers and checkpoints see it: without the copies, and in the first stage's state under both names."""
    for last in names:
        if has(part, last):
            part = without_parameter(part, last)
    both = {last: first for last, first in names.items() if has(part, first)}

    def tell(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
        state.update({prefix + last: state[prefix + first] for last, first in both.items()})

    def take(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for last in both:
            state.pop(prefix + last, None)

    if both:
        part.register_state_dict_post_hook(tell)  # type: ignore[no-untyped-call] # torch has no types for it
        part.register_load_state_dict_pre_hook(take)  # type: ignore[no-untyped-call] # as above
    return part


def _copy(whole: Whole, entry: Entry) -> nn.Parameter:
    original = tensor_at(whole.module, entry.name)
    return nn.Parameter(torch.empty_like(original, device=META), requires_grad=original.requires_grad)


def _held(part: nn.Module, first: str, last: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    mine = tensor_at(part, first) if has(part, first) else None
    return mine, tensor_at(part, last) if has(part, last) else None


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{each}.") for each in modules)


def _gradient(parameter: torch.Tensor | None) -> torch.Tensor | None:
    """The gradient, cut as the parameter is: that of a product may come out cut along another dimension."""
    if parameter is None or parameter.grad is None:
        return None
    if isinstance(parameter.grad, DTensor) and isinstance(parameter, DTensor):
        return parameter.grad.redistribute(placements=parameter.placements)
    return parameter.grad


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
