"""Tensors that several ranks share (DTensor): which box of the whole a rank holds, and the way back.

Loaded only when such a tensor is met: DTensors take a second to import. Does not know: names, or who writes what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.layout import Box


def box_of(tensor: Any, name: str) -> Box:
    """The box that this rank holds. Raises CheckpointError for a tensor whose ranks hold summands."""
    if any(placement.is_partial() for placement in tensor.placements):
        raise CheckpointError("a tensor that is not summed up yet cannot be kept", value=name, fix="keep it replicated or sharded")
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    local = tuple(tensor._local_tensor.shape)
    if tuple(shape) != local:
        raise CheckpointError("a shared tensor is laid out in a way that cannot be kept", value=f"{name}: {tensor.placements}")
    return Box(tuple(offset) or (0,) * len(shape), tuple(shape))


def local_of(tensor: Any) -> torch.Tensor:
    """What this rank holds of it."""
    local: torch.Tensor = tensor._local_tensor
    return local.detach()


def like(local: torch.Tensor, target: Any) -> Any:
    """`local` as this rank's share of a tensor that is shared as `target` is."""
    shape, stride = target.shape, _stride(target.shape)
    moved = local.to(target._local_tensor.device)
    return DTensor.from_local(moved, target.device_mesh, target.placements, run_check=False, shape=shape, stride=stride)


def _stride(shape: Sequence[int]) -> tuple[int, ...]:
    stride = [1]
    for size in reversed(shape[1:]):
        stride.insert(0, stride[0] * max(size, 1))
    return tuple(stride[: len(shape)])
