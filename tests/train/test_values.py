from typing import Any

import pytest
import torch

from bedplate.train.values import built, has, put_at, tensor_at, tie
from train.parallels import Plain, build


def test_a_structure_is_built_without_values_and_knows_all_of_them() -> None:
    torch.manual_seed(0)
    whole = built(Plain, with_values=True)
    assert whole.values is not None
    assert {entry.name: entry.kind for entry in whole.entries if entry.kind != "parameter"} == {"scale": "buffer", "shift": "attribute"}
    assert all(tensor_at(whole.module, entry.name).is_meta for entry in whole.entries)
    torch.manual_seed(0)
    model = Plain()
    assert whole.names == tuple(model.state_dict())
    assert all(torch.equal(whole.values[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(whole.values["shift"], model.shift)


@pytest.mark.parametrize("kind", ["plain", "decoder", "tied"])  # a plain one reads values while it is built
def test_ranks_without_values_have_the_same_structure(kind: str) -> None:
    with_values, without = (built(lambda: build(kind), with_values=each) for each in (True, False))
    assert without.values is None
    assert with_values.entries == without.entries
    assert with_values.names == without.names
    assert all(tensor_at(without.module, entry.name).is_meta for entry in without.entries)


def test_what_is_tied_stays_tied() -> None:
    whole = built(lambda: build("tied"), with_values=True)
    module: Any = whole.module
    assert [entry.tied for entry in whole.entries if entry.tied] == [("head.weight",)]
    assert module.head.weight is module.embedding.weight
    put_at(module, "embedding.weight", torch.nn.Parameter(torch.zeros(32, 16)))
    assert module.head.weight is not module.embedding.weight
    tie(module, whole.entries)
    assert module.head.weight is module.embedding.weight


def test_a_part_has_some_of_the_names() -> None:
    model = build("decoder")
    assert has(model, "layers.0.feed.up.weight")
    assert has(model, "frequencies")
    assert not has(model, "layers.9.feed.up.weight")
    assert not has(model, "layers.0.feed.up.bias")


def test_saved_weights_have_the_names_and_the_order_of_one_process(parity: Any) -> None:
    for name in ("DP x TP x PP", "FSDP x TP", "FSDP x PP"):
        assert parity.trained(name).names == list(build("decoder").state_dict())
    assert parity.trained("FSDP plain").names == list(Plain().state_dict())
    assert parity.trained("FSDP tied").names == list(build("tied").state_dict())


def test_buffers_reach_every_rank(parity: Any) -> None:
    assert torch.equal(parity.trained("FSDP plain").weights["scale"], parity.trained("one plain").weights["scale"])
