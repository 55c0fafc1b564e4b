"""The values of a model that no rank holds whole: dealt out from the rank that built it, and brought together again.

Rank 0 alone builds with values, on the CPU; the others build the structure on the meta device. Each tensor is sent to all ranks once, and
each keeps its piece: beside its own pieces a rank needs room for the largest tensor, and rank 0's host for the whole model, once.
Does not know: how pieces were chosen (`sharded`), optimizers, or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

META = torch.device("meta")


@dataclass(frozen=True)
class Entry:
    """One tensor of the whole model. `saved`: it is part of the state dict. `tied` are further names of the same parameter."""

    name: str
    kind: Literal["parameter", "buffer", "attribute"]
    shape: torch.Size
    dtype: torch.dtype
    saved: bool
    tied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    """A model's structure, on the meta device, and its tensors; `values` by name, on the rank that built with them.

    `names` are those of its state dict, in order.
    """

    module: nn.Module
    entries: tuple[Entry, ...]
    names: tuple[str, ...]
    values: Mapping[str, torch.Tensor] | None


def built(build: Callable[[], nn.Module], *, with_values: bool) -> Whole:
    """What `build` builds. Every rank calls this with the generators in the same state."""
    module = build() if with_values else _structure(build)
    entries = tuple(_entries(module))
    values = {entry.name: tensor_at(module, entry.name).detach() for entry in entries} if with_values else None
    _forget(module, entries)
    return Whole(module, entries, tuple(module.state_dict()), values)


def _structure(build: Callable[[], nn.Module]) -> nn.Module:
    """A module without values. Where a constructor reads values (`x.item()`), it has to have them for a moment."""
    state = torch.get_rng_state()
    try:
        with META:
            return build()
    except (RuntimeError, NotImplementedError, TypeError):  # what torch raises for reading a tensor that has no values
        torch.set_rng_state(state)
        return build()


def _entries(module: nn.Module) -> Iterator[Entry]:
    names: dict[torch.Tensor, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    for tensor, (name, *tied) in names.items():
        yield Entry(name, "parameter", tensor.shape, tensor.dtype, True, tuple(tied))
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        lead = f"{prefix}." if prefix else ""
        for name, buffer in owner._buffers.items():
            if buffer is not None and id(buffer) not in seen:
                seen.add(id(buffer))
                yield Entry(lead + name, "buffer", buffer.shape, buffer.dtype, name not in owner._non_persistent_buffers_set)
        for name, value in vars(owner).items():
            if isinstance(value, torch.Tensor):
                yield Entry(lead + name, "attribute", value.shape, value.dtype, False)


def _forget(module: nn.Module, entries: Sequence[Entry]) -> None:
    """Move a module to the meta device; what was tied stays tied."""
    for entry in entries:
        tensor = tensor_at(module, entry.name)
        empty: torch.Tensor = torch.empty_like(tensor, device=META)
        if entry.kind == "parameter":
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        for name in (entry.name, *entry.tied):
            put_at(module, name, empty)


def tie(module: nn.Module, entries: Sequence[Entry]) -> None:
    """Make what is tied one parameter again, where a change has split it."""
    for entry in entries:
        for name in entry.tied:
            put_at(module, name, tensor_at(module, entry.name))


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that has the tensor `name`, and its last name there. Raises AttributeError where there is none."""
    path, _, last = name.rpartition(".")
    return module.get_submodule(path), last


def tensor_at(module: nn.Module, name: str) -> torch.Tensor:
    """The parameter, buffer or attribute of that dotted name."""
    owner, last = owner_of(module, name)
    found = getattr(owner, last)
    assert isinstance(found, torch.Tensor)
    return found


def put_at(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a tensor in the place of the one of that dotted name."""
    owner, last = owner_of(module, name)
    if last in owner._parameters:
        assert isinstance(tensor, nn.Parameter)
        owner._parameters[last] = tensor
    elif last in owner._buffers:
        owner._buffers[last] = tensor
    else:
        vars(owner)[last] = tensor


def has(module: nn.Module, name: str) -> bool:
    """Whether this part of the model has that tensor."""
    try:
        owner, last = owner_of(module, name)
    except AttributeError:
        return False
    return any(places.get(last) is not None for places in (owner._parameters, owner._buffers, vars(owner)))


@torch.no_grad()
def deal(part: nn.Module, whole: Whole, device: torch.device) -> None:
    """Put this rank's pieces of the values into `part`, which lies on `device`. Every rank of the run calls this."""
    for entry in whole.entries:
        if whole.values is not None:
            tensor = whole.values[entry.name].to(device).contiguous()
        else:
            tensor = torch.empty(entry.shape, dtype=entry.dtype, device=device)
        dist.broadcast(_raw(tensor), src=0)
        if has(part, entry.name):
            _put_piece(part, entry, tensor)


def _put_piece(part: nn.Module, entry: Entry, tensor: torch.Tensor) -> None:
    if entry.kind == "attribute":
        put_at(part, entry.name, tensor)
        return
    target = tensor_at(part, entry.name)
    if isinstance(target, DTensor):
        shape, offset = compute_local_shape_and_global_offset(tensor.shape, target.device_mesh, target.placements)
        piece = tensor[tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))]
        target.to_local().copy_(piece)
    else:
        target.copy_(tensor)


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's bytes: not every backend sends every type."""
    return tensor.reshape(-1).view(torch.uint8)


@torch.no_grad()
def gathered(part: nn.Module, whole: Whole, holder_of: Mapping[str, int], group: Any, *, first_column: bool) -> dict[str, torch.Tensor]:
    """The state dict of the whole model on rank 0, on the CPU and under the names of one process; elsewhere an empty one.

    `holder_of` names the rank of the pipeline that has a tensor, `group` is the pipeline's (None without one), and `first_column` says
    whether rank 0 is in it. Every rank that shares rank 0's copy of the model calls this.
    """
    found: dict[str, torch.Tensor] = {}
    keeps = first_column and (group is None or dist.get_rank(group) == 0)
    for entry in whole.entries:
        if not entry.saved:
            continue
        tensor = tensor_at(part, entry.name).detach() if has(part, entry.name) else None
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor()
        if group is not None and first_column and holder_of[entry.name] != 0:
            device = next(part.parameters()).device
            tensor = torch.empty(entry.shape, dtype=entry.dtype, device=device) if tensor is None else tensor.contiguous()
            dist.broadcast(_raw(tensor), group=group, group_src=holder_of[entry.name])
        if keeps:
            assert tensor is not None
            for name in (entry.name, *entry.tied):
                found[name] = tensor.cpu()
    return {name: found[name] for name in whole.names} if keeps else {}


def reshard(*models: nn.Module) -> None:
    """Give up what sharded modules gathered for a forward pass behind which no backward pass comes."""
    for module in (module for model in models for module in model.modules()):
        if isinstance(module, FSDPModule):
            module.reshard()
