"""State of models, optimizers and random generators as tensors by name and a JSON tree: never pickle.

Tags in the tree: {"t": name} a tensor, {"d": [[key, value]…]} a mapping with keys of any type, {"u": […]} a tuple.
Does not know: files, or whose state it is.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bedplate.core.errors import CheckpointError

Tensors = dict[str, torch.Tensor]


def flatten(value: Any, tensors: Tensors, name: str = "state") -> Any:
    """The JSON tree of `value`, whose tensors are put into `tensors` under dotted names below `name` (not copied).

    Raises CheckpointError, with the name, for a type that it does not know.
    """
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach()
        return {"t": name}
    if isinstance(value, Mapping):
        return {"d": [[_key(key, name), flatten(each, tensors, f"{name}.{key}")] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [flatten(each, tensors, f"{name}.{place}") for place, each in enumerate(value)]
        return items if isinstance(value, list) else {"u": items}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError("state of this type cannot be kept", value=f"{name}: {type(value).__name__}", fix="keep tensors and plain values")


def unflatten(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of `flatten`. Raises CheckpointError for a tensor that is not there."""
    if isinstance(tree, list):
        return [unflatten(each, tensors) for each in tree]
    if not isinstance(tree, dict):
        return tree
    (tag, content), *_ = tree.items()
    if tag == "t":
        if content not in tensors:
            raise CheckpointError("a checkpoint lacks a tensor", value=content)
        return tensors[content]
    if tag == "u":
        return tuple(unflatten(each, tensors) for each in content)
    return {key: unflatten(each, tensors) for key, each in content}


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (every device), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def generators(device: torch.device) -> dict[str, Any]:
    """The states of those generators in this process, as JSON."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": _encoded(torch.get_rng_state().numpy()),
        "cuda": _encoded(torch.cuda.get_rng_state(device).numpy()) if device.type == "cuda" else None,
        "numpy": [str(kind), _encoded(np.asarray(keys, dtype="<u4")), int(position), int(has_gauss), float(gauss)],
        "python": _python_state(),
    }


def restore_generators(state: Mapping[str, Any], device: torch.device) -> None:
    """Put the states back that `generators` gave."""
    torch.set_rng_state(_decoded(state["torch"]))
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(_decoded(state["cuda"]), device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.frombuffer(base64.b64decode(keys), dtype="<u4"), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _python_state() -> list[Any]:
    version, internal, gauss = random.getstate()
    return [version, list(internal), gauss]


def _encoded(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _decoded(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def _key(key: Any, name: str) -> str | int:
    if isinstance(key, (str, int)):
        return key
    raise CheckpointError("state has a key that cannot be kept", value=f"{name}: {key!r}", fix="use strings or integers")
