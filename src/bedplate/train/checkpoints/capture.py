"""From the user's `state` to named tensors and a plain tree, and back. Names are those of the whole model in one process.

The state of a module is named by its own keys, that of an optimizer by the names of the parameters that it belongs to, so that a rank which
holds a part finds its own. `0.layers.1.weight` is of the first object in `state`; `1.state.0.layers.1.weight.exp_avg` of the second.
Does not know: files, ranks, or when.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.parallel import DistributedDataParallel

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.layout import Box, Held, checked_dtype
from bedplate.train.tree import Tensors, flatten, unflatten

Tree = Any


def bare(state: Any) -> Any:
    """A module without the wrapper that shares its gradients, so that its names do not depend on the world size."""
    return state.module if isinstance(state, DistributedDataParallel) else state


@dataclass(frozen=True)
class Captured:
    """This rank's state at one step: a tree for each object, what the rank holds, and the tensors themselves (not copied)."""

    trees: list[Tree]
    held: list[Held]
    tensors: list[torch.Tensor]


class Source(Protocol):
    """Where tensors are read from."""

    def whole(self, name: str) -> tuple[int, ...]:
        """The shape of a whole tensor. Raises CheckpointError when there is none of that name."""

    def read(self, name: str, box: Box) -> torch.Tensor:
        """A region of it, on the CPU, in memory of its own. Raises CheckpointError when it is damaged or not all there."""


def capture(state: Sequence[Any]) -> Captured:
    """What this rank has of `state`. Raises CheckpointError, with the name, for what cannot be kept."""
    tensors: Tensors = {}
    trees = []
    equal: set[str] = set()
    names = parameter_names(state)
    for index, each in enumerate(map(bare, state)):
        before = len(tensors)
        if isinstance(each, torch.optim.Optimizer):
            trees.append({"optimizer": flatten(_by_name(each, names), tensors, str(index))})
            equal.update(list(tensors)[before:])
        elif isinstance(each, torch.nn.Module):
            trees.append({"module": _flat_module(each, tensors, str(index))})
            equal.update(f"{index}.{name}" for name, _ in each.named_parameters())
        else:
            trees.append({"other": flatten(each.state_dict(), tensors, str(index))})
    held, locals_ = [], []
    for name, tensor in tensors.items():
        box, local = _part(tensor, name)
        copies = name in equal or hasattr(tensor, "placements")
        held.append(Held(name, checked_dtype(name, str(local.dtype).removeprefix("torch.")), tuple(tensor.shape), box, copies))
        locals_.append(local)
    return Captured(trees, held, locals_)


def apply(state: Sequence[Any], trees: Sequence[Tree], source: Source) -> Callable[[], None]:
    """Read what this rank needs of a checkpoint; the function that is returned puts it into `state`.

    Raises CheckpointError when the checkpoint is of other objects, and what `source` raises.
    """
    kinds = [_kind(bare(each)) for each in state]
    if [next(iter(tree)) for tree in trees] != kinds:
        value = [next(iter(tree)) for tree in trees]
        raise CheckpointError("the checkpoint is of another loop", value=value, fix=f"keep `state` as it was: now it is {kinds}")
    names = parameter_names(state)
    loaded: list[tuple[Any, Any]] = []
    for each, tree in zip(map(bare, state), trees, strict=True):
        if isinstance(each, torch.nn.Module):
            loaded.append((each, _module_values(each, tree["module"], source)))
        elif isinstance(each, torch.optim.Optimizer):
            loaded.append((each, _optimizer_values(each, tree["optimizer"], names, source)))
        else:
            loaded.append((each, unflatten(tree["other"], _Whole(source))))

    def put() -> None:
        for each, values in loaded:
            try:
                each.load_state_dict(values)
            except (RuntimeError, ValueError, KeyError) as error:
                text = " ".join(str(error).split())
                raise CheckpointError(
                    f"the checkpoint does not fit: {text}", fix="keep the model and optimizer that it was made of"
                ) from error

    return put


def merged(trees: Sequence[Sequence[Tree]]) -> list[Tree]:
    """The trees of all ranks as one: a rank that holds a part of the model knows the names of that part only."""
    first = trees[0]
    for other in trees[1:]:
        first = [_merge(mine, theirs) for mine, theirs in zip(first, other, strict=True)]
    return list(first)


def parameter_names(state: Sequence[Any]) -> dict[int, str]:
    """The name of each parameter of the modules in `state`, by its identity: the index of the module, a dot, its own name."""
    found: dict[int, str] = {}
    for index, each in enumerate(map(bare, state)):
        if isinstance(each, torch.nn.Module):
            for name, parameter in each.named_parameters():
                found.setdefault(id(parameter), f"{index}.{name}")
    return found


def _kind(each: Any) -> str:
    if isinstance(each, torch.nn.Module):
        return "module"
    return "optimizer" if isinstance(each, torch.optim.Optimizer) else "other"


def _flat_module(module: torch.nn.Module, tensors: Tensors, name: str) -> Tree:
    """Tied tensors are kept once: the second name refers to the first."""
    seen: dict[tuple[Any, ...], str] = {}
    entries = []
    for key, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            local = _part(value, key)[1]
            place = (local.data_ptr(), local.dtype, tuple(value.shape), local.stride())
            first = seen.setdefault(place, f"{name}.{key}") if local.numel() else f"{name}.{key}"
            if first != f"{name}.{key}":
                entries.append([key, {"t": first}])
                continue
        entries.append([key, flatten(value, tensors, f"{name}.{key}")])
    return {"d": entries}


def _by_name(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Any]:
    packed = optimizer.state_dict()
    keys = dict(_keys(optimizer, names))
    groups = [{name: value for name, value in group.items() if name not in ("params", "param_names")} for group in packed["param_groups"]]
    return {"state": {keys[number]: values for number, values in packed["state"].items()}, "groups": groups}


def _keys(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """The number that torch gives to each parameter of an optimizer, and the name that we give; for one of no module its place."""
    number = 0
    for place, group in enumerate(optimizer.param_groups):
        for within, parameter in enumerate(group["params"]):
            yield number, names.get(id(parameter), f"group.{place}.{within}")
            number += 1


def _module_values(module: torch.nn.Module, tree: Tree, source: Source) -> dict[str, Any]:
    saved = dict(_entries(tree))
    values: dict[str, Any] = {}
    for key, target in module.state_dict().items():
        if key not in saved:
            continue  # loading says which are missing
        leaf = saved[key]
        tensor = isinstance(leaf, dict) and "t" in leaf and isinstance(target, torch.Tensor)
        values[key] = _read_like(leaf["t"], target, source) if tensor else unflatten(leaf, _Whole(source))
    return values


def _optimizer_values(optimizer: torch.optim.Optimizer, tree: Tree, names: Mapping[int, str], source: Source) -> dict[str, Any]:
    saved = dict(_entries(tree))
    states = dict(_entries(saved["state"]))
    settings = unflatten(saved["groups"], _Whole(source))
    if len(settings) != len(optimizer.param_groups):
        raise CheckpointError("the checkpoint's optimizer has another number of parameter groups", value=len(settings))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found: dict[int, Any] = {}
    groups = []
    keys = dict(_keys(optimizer, names))
    for number, key in keys.items():
        if key in states:
            found[number] = {name: _state_leaf(leaf, parameters[number], source) for name, leaf in _entries(states[key])}
    number = 0
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        groups.append({**values, "params": list(range(number, number + len(group["params"])))})
        number += len(group["params"])
    return {"state": found, "param_groups": groups}


def _state_leaf(leaf: Tree, parameter: torch.Tensor, source: Source) -> Any:
    if isinstance(leaf, dict) and "t" in leaf:
        whole = source.whole(leaf["t"])
        if whole == tuple(parameter.shape) and parameter.dim():
            return _read_like(leaf["t"], parameter, source)
        return source.read(leaf["t"], Box((0,) * len(whole), whole))
    return unflatten(leaf, _Whole(source))


def _read_like(name: str, target: torch.Tensor, source: Source) -> torch.Tensor:
    whole = source.whole(name)
    if whole != tuple(target.shape):
        raise CheckpointError(
            f"the checkpoint's {name} has another shape", value=whole, fix=f"keep the model: here it is {tuple(target.shape)}"
        )
    box, _ = _part(target, name)
    local = source.read(name, box)
    return _dtensors().like(local, target) if hasattr(target, "placements") else local


def _part(tensor: torch.Tensor, name: str) -> tuple[Box, torch.Tensor]:
    if hasattr(tensor, "placements"):
        return _dtensors().box_of(tensor, name), _dtensors().local_of(tensor)
    return Box((0,) * tensor.dim(), tuple(tensor.shape)), tensor.detach()


def _dtensors() -> Any:
    return importlib.import_module("bedplate.train.checkpoints.dtensors")


def _entries(tree: Tree) -> list[tuple[Any, Tree]]:
    return [(key, value) for key, value in tree["d"]]


def _merge(mine: Tree, theirs: Tree) -> Tree:
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() == theirs.keys():
        if "d" not in mine:
            return {key: _merge(mine[key], theirs[key]) if key in ("optimizer", "module", "other") else mine[key] for key in mine}
        known = dict(_entries(mine))
        for key, value in _entries(theirs):
            known[key] = _merge(known[key], value) if key in known else value
        return {"d": [[key, value] for key, value in known.items()]}
    return mine


class _Whole(Mapping[str, torch.Tensor]):
    """The tensors of a source, whole, by name."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __getitem__(self, name: str) -> torch.Tensor:
        whole = self._source.whole(name)
        return self._source.read(name, Box((0,) * len(whole), whole))

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("tensors are asked for by name")

    def __len__(self) -> int:
        raise NotImplementedError("tensors are asked for by name")
