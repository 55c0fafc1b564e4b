"""The norm of gradients that are spread over a mesh, and cutting it.

Each element of the whole gradient is counted once, however many ranks hold it: a rank's sum of squares is divided by how many hold the
same elements, and one all-reduce of one number over all ranks gives the square of the norm.
Does not know: models, optimizers, or how the mesh is laid out.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_


@torch.no_grad()
def clip(parameters: Iterable[torch.Tensor], limit: float, ranks_per_stage: int) -> torch.Tensor:
    """Scale the gradients so that their norm over the whole model is at most `limit`; returns the norm before, on the device.

    `ranks_per_stage` is how many ranks hold the same layers, or shares of them. Never waits for the device. Every rank calls this.
    """
    locals_, shares = [], []
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        locals_.append(gradient.to_local() if isinstance(gradient, DTensor) else gradient)
        shares.append(_shards(gradient) / ranks_per_stage)
    device = locals_[0].device if locals_ else torch.device("cpu")
    total = torch.zeros((), dtype=torch.float64, device=device)
    if locals_:
        norms = torch.stack([norm.double() for norm in torch._foreach_norm(locals_)])
        total += (norms.square() * torch.tensor(shares, dtype=torch.float64, device=device)).sum()
    dist.all_reduce(total)
    norm = total.sqrt()
    scale = torch.clamp(limit / (norm + EPSILON), max=1.0)
    if locals_:
        torch._foreach_mul_(locals_, scale)
    return norm


def _shards(gradient: torch.Tensor) -> int:
    """Over how many ranks the elements of a gradient are spread."""
    if not isinstance(gradient, DTensor):
        return 1
    count = 1
    for dimension, placement in enumerate(gradient.placements):
        if not placement.is_replicate():
            count *= gradient.device_mesh.size(dimension)
    return count
