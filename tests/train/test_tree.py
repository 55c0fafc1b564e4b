import json
import random

import numpy as np
import pytest
import torch

from bedplate.core.errors import CheckpointError
from bedplate.train.tree import Tensors, flatten, generators, restore_generators, seed_everything, unflatten


def there_and_back(value: object) -> object:
    tensors: Tensors = {}
    return unflatten(json.loads(json.dumps(flatten(value, tensors))), tensors)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_the_state_of_an_optimizer_survives_exactly(kind: type[torch.optim.Optimizer]) -> None:
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = kind([parameter], lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    parameter.square().sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    back = there_and_back(state)
    assert back["param_groups"] == state["param_groups"]
    assert type(back["param_groups"][0].get("betas", ())) is tuple
    assert back["state"].keys() == state["state"].keys()
    assert all(torch.equal(back["state"][0][name], value) for name, value in state["state"][0].items() if value is not None)
    optimizer.load_state_dict(back)


def test_plain_values_of_every_kind_survive() -> None:
    value = {"a": [1, 2.5, None, True, "x"], 7: ({"b": ()},), "inf": float("inf")}
    assert there_and_back(value) == value


@pytest.mark.parametrize("value", [{"a": {"b": object()}}, {"a": {(1, 2): 1}}])
def test_what_cannot_be_kept_is_named(value: object) -> None:
    with pytest.raises(CheckpointError, match=r"state\.a"):
        flatten(value, {})


def test_a_tensor_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CheckpointError, match=r"state\.w"):
        unflatten({"t": "state.w"}, {})


def draws() -> list[float]:
    return [float(torch.randn(())), float(np.random.normal()), float(np.random.randint(9)), random.random(), random.gauss(0, 1)]


def test_generators_go_on_where_they_stood() -> None:
    cpu = torch.device("cpu")
    seed_everything(5)
    draws()
    kept = json.loads(json.dumps(generators(cpu)))
    after = [draws(), draws()]
    seed_everything(6)
    restore_generators(kept, cpu)
    assert [draws(), draws()] == after


def test_one_seed_is_one_sequence() -> None:
    seed_everything(2**40)
    first = draws()
    seed_everything(2**40)
    assert draws() == first
