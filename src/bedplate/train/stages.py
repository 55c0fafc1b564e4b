"""Cutting a model into the stages of a pipeline.

A stage is the model itself with some of its modules left out, so its tensors have the names that they have in the whole.
Does not know: schedules (`pipeline`), tensors or devices.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

from torch import nn

from bedplate.core.errors import JobError
from bedplate.train.mesh import Mesh
from bedplate.train.plan import Plan

OWN = ("_parameters", "_buffers")  # shared between the copies: what replaces a tensor in one replaces it in all


def blocks_of(model: nn.Module, plan: Plan, stages: int) -> list[range]:
    """Which blocks each stage has. The first and the last, which have more besides, get the smaller shares.

    Raises JobError for more stages than blocks.
    """
    listed = model.get_submodule(plan.blocks)
    assert isinstance(listed, nn.ModuleList)
    if len(listed) < stages:
        fix = f"use a model with at least {stages} blocks, or a smaller `pipeline`"
        raise JobError(f"a model of {len(listed)} blocks cannot be cut into {stages} stages", fix=fix)
    share, rest = divmod(len(listed), stages)
    middle = range((stages - rest) // 2, (stages - rest) // 2 + rest)
    ranges, start = [], 0
    for stage in range(stages):
        end = start + share + (stage in middle)
        ranges.append(range(start, end))
        start = end
    return ranges


def part_of(model: nn.Module, plan: Plan, stages: Collection[int], count: int) -> nn.Module:
    """The model with only what the stages of these numbers have, of `count` in all."""
    ranges = blocks_of(model, plan, count)
    kept = {number for stage in stages for number in ranges[stage]}
    blocks = {f"{plan.blocks}.{number}" for number in range(ranges[-1].stop) if number not in kept}
    ends = {*(plan.first if 0 not in stages else ()), *(plan.last if count - 1 not in stages else ())}
    return _without(model, blocks, ends)


def stage_of(part: nn.Module, model: nn.Module, plan: Plan, number: int, count: int) -> nn.Module:
    """One stage of `part`, which was made of `model`; it runs as the plan says."""
    twin = _twin(part_of_part(part, model, plan, number, count))
    forward, is_first, is_last = plan.forward, number == 0, number == count - 1
    twin.forward = lambda inputs: forward(twin, inputs, is_first, is_last)  # what wraps the module calls it as its own
    return twin


def part_of_part(part: nn.Module, model: nn.Module, plan: Plan, number: int, count: int) -> nn.Module:
    """What stage `number` has of a part that may have several stages."""
    ranges = blocks_of(model, plan, count)
    blocks = {f"{plan.blocks}.{each}" for each in range(ranges[-1].stop) if each not in ranges[number]}
    ends = {*(plan.first if number != 0 else ()), *(plan.last if number != count - 1 else ())}
    return _without(part, blocks, ends)


def holders(model: nn.Module, plan: Plan, mesh: Mesh, names: Collection[str]) -> dict[str, int]:
    """For each tensor of the whole model the lowest rank of the pipeline that has it."""
    ranges = blocks_of(model, plan, mesh.stages)
    rank_of = {stage: rank for rank in range(mesh.pipeline) for stage in mesh.stages_of(rank)}

    def stage_with(name: str) -> int:
        if any(name.startswith(f"{each}.") for each in plan.first):
            return 0
        if any(name.startswith(f"{each}.") for each in plan.last):
            return mesh.stages - 1
        if name.startswith(f"{plan.blocks}."):
            block = int(name.removeprefix(f"{plan.blocks}.").partition(".")[0])
            return next(stage for stage, blocks in enumerate(ranges) if block in blocks)
        return 0

    return {name: rank_of[stage_with(name)] for name in names}


def without_parameter(module: nn.Module, name: str) -> nn.Module:
    """The module without the parameter of that dotted name; what is above it is copied, the rest shared."""
    twin = _twin(module)
    head, _, rest = name.partition(".")
    child = twin._modules.get(head)
    if rest and child is not None:
        twin._modules[head] = without_parameter(child, rest)
    else:
        twin._parameters = {own: each for own, each in module._parameters.items() if own != name}
    return twin


def _without(module: nn.Module, blocks: Collection[str], ends: Collection[str], lead: str = "") -> nn.Module:
    """The module with `blocks` taken out and an identity in the place of each of `ends`; what is above them is copied, the rest shared."""
    if not any(name.startswith(lead) for name in (*blocks, *ends)):
        return module
    twin = _twin(module)
    for name, child in module._modules.items():
        if child is None:
            continue
        if lead + name in blocks:
            del twin._modules[name]
        elif lead + name in ends:
            twin._modules[name] = nn.Identity()
        else:
            twin._modules[name] = _without(child, blocks, ends, f"{lead}{name}.")
    return twin


def _twin(module: nn.Module) -> nn.Module:
    """A module with the same tensors and children, and with hooks of its own."""
    twin = copy.copy(module)
    for name, value in vars(module).items():
        if name.startswith("_") and name not in OWN and isinstance(value, dict):
            vars(twin)[name] = copy.copy(value)
    return twin
