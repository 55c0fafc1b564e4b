"""How a model is computed, whatever the mesh: precision, micro-batches, recomputed activations, compiled blocks.

Does not know: ranks, or what the model is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from bedplate.core.errors import JobError


@dataclass(frozen=True)
class Execution:
    """`accumulate` is the number of micro-batches of one `run.backward`; the other fields are those of a job."""

    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = 1
    activation_checkpointing: bool = False
    compile: bool = False

    @staticmethod
    def of(spec: Mapping[str, Any]) -> Execution:
        """What a step's spec says; what it does not name is left as it is."""
        return Execution(
            precision=spec.get("precision", "fp32"),
            accumulate=int(spec.get("accumulate", 1)),
            activation_checkpointing=bool(spec.get("activation_checkpointing", False)),
            compile=bool(spec.get("compile", False)),
        )


def blocks_in(module: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a model: the elements of its outermost ModuleLists that have parameters."""
    found: list[nn.Module] = []
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            found += [each for each in child if next(each.parameters(), None) is not None]
        else:
            found += blocks_in(child)
    return found


def apply(execution: Execution, module: nn.Module, device: torch.device) -> None:
    """Have `module` computed so. Its names, parameters and hooks stay; without blocks it is one block."""
    blocks = blocks_in(module) or [module]
    if execution.activation_checkpointing:
        for block in blocks:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    if execution.precision == "bf16":
        module.forward = _in_bfloat16(module.forward, device)
    if execution.compile:
        for block in blocks:
            block.compile()


def _in_bfloat16(forward: Any, device: torch.device) -> Any:
    """Matrix products in bfloat16, sums that need it in float32 (torch's lists for autocast); results are float32 again."""

    def mixed(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            output = forward(*args, **kwargs)
        return tree_map(_single, output)

    return mixed


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value


def micro_batches(batch: Any, count: int) -> Iterator[Any]:
    """A batch in `count` equal parts: a tensor, or tensors in a mapping, list or tuple, cut along the first dimension.

    Raises JobError for rows that cannot be divided.
    """
    if count == 1:
        yield batch
        return
    for number in range(count):
        yield tree_map(functools.partial(_share, number=number, count=count), batch)


def _share(value: Any, *, number: int, count: int) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        return value
    rows, rest = divmod(value.shape[0], count)
    if rest or not rows:
        fix = f"use a batch size that gives each rank a multiple of {count}"
        raise JobError(f"a rank's batch cannot be cut into {count} micro-batches", value=value.shape[0], fix=fix)
    return value[number * rows : (number + 1) * rows]


def checked_loss(loss: Any) -> torch.Tensor:
    """A loss that is one number. Raises JobError."""
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise JobError("a loss must be one number", value=getattr(loss, "shape", type(loss).__name__), fix="return its mean")
    return loss
