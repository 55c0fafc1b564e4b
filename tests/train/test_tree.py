import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=15,
)


def same_types(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return all(same_types(one[key], other[key]) for key in one)
    return not isinstance(one, (list, tuple)) or all(map(same_types, one, other))


@given(TREES)
def test_any_tree_of_plain_values_comes_back_with_its_types(tree: Any) -> None:
    back = there_and_back(tree)
    assert back == tree
    assert same_types(tree, back)


@pytest.mark.parametrize("value", [{"t": "state.w"}, {"d": []}, {"u": [1]}, {"t": {"d": [["u", 1]]}}])
def test_what_looks_like_a_tag_is_none(value: dict[str, Any]) -> None:
    assert there_and_back(value) == value


def test_keys_that_print_alike_stay_apart() -> None:
    assert there_and_back({1: "number", "1": "text"}) == {1: "number", "1": "text"}


def test_tensors_are_named_by_the_way_to_them_and_are_not_copied() -> None:
    weight, other = torch.ones(2, requires_grad=True), torch.zeros(1)
    tensors: Tensors = {}
    flatten({"model": [weight, {"deep": (other,)}]}, tensors, "run")
    assert list(tensors) == ["run.model.0", "run.model.1.deep.0"]
    assert tensors["run.model.0"].data_ptr() == weight.data_ptr()
    assert not tensors["run.model.0"].requires_grad


@pytest.mark.parametrize(
    ("value", "named"),
    [({1, 2}, "state: set"), (b"x", "state: bytes"), ([1, {"a": 2j}], "state.1.a: complex"), ({"o": [object()]}, "state.o.0: object"),
     ({"a": {None: 1}}, "state.a: None"), ({2.5: 1}, "state: 2.5")],
)  # fmt: skip
def test_the_way_to_what_cannot_be_kept_is_told(value: object, named: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        flatten(value, {})
    assert named in str(raised.value)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_generator_is_set_back_alone_from_the_others(broken: int) -> None:
    cpu = torch.device("cpu")
    seed_everything(1)
    kept = generators(cpu)
    expected = draws()
    (lambda: torch.rand(9), lambda: np.random.rand(9), lambda: [random.random() for _ in range(9)])[broken]()
    restore_generators(kept, cpu)
    assert draws() == expected


@pytest.mark.parametrize(("one", "other", "equal"), [(7, 7, True), (7, 8, False), (2**32, 0, False), (2**32 + 5, 2**33 + 5, False)])
def test_seeds_beyond_what_numpy_takes_differ_still(one: int, other: int, equal: bool) -> None:
    seed_everything(one)
    first = draws()
    seed_everything(other)
    assert (draws() == first) is equal
