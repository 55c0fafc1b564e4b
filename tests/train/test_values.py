from typing import Any

import pytest
import torch
from torch import nn

from bedplate.train.values import Entry, built, has, owner_of, put_at, reshard, tensor_at, tie
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


class Keeps(nn.Module):
    """Of every kind of tensor one, some of which are not saved; nested, and a buffer that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3))
        self.frozen = nn.Parameter(torch.full((2,), 7, dtype=torch.int32), requires_grad=False)
        shared = torch.arange(4.0)
        self.register_buffer("table", shared)
        self.register_buffer("cache", torch.ones(1, dtype=torch.bool), persistent=False)
        self.register_buffer("absent", None)
        self.twin = nn.Module()
        self.twin.register_buffer("table", shared)
        self.twin.noise = torch.tensor(0.5, dtype=torch.float64)


def test_every_tensor_is_told_with_its_kind_shape_type_and_whether_it_is_saved() -> None:
    entries = {each.name: each for each in built(Keeps, with_values=True).entries}
    assert entries == {
        "frozen": Entry("frozen", "parameter", torch.Size([2]), torch.int32, True),
        "inner.0.weight": Entry("inner.0.weight", "parameter", torch.Size([3, 2]), torch.float32, True),
        "inner.1.weight": Entry("inner.1.weight", "parameter", torch.Size([3]), torch.float32, True),
        "inner.1.bias": Entry("inner.1.bias", "parameter", torch.Size([3]), torch.float32, True),
        "table": Entry("table", "buffer", torch.Size([4]), torch.float32, True),
        "cache": Entry("cache", "buffer", torch.Size([1]), torch.bool, False),
        "inner.1.running_mean": Entry("inner.1.running_mean", "buffer", torch.Size([3]), torch.float32, True),
        "inner.1.running_var": Entry("inner.1.running_var", "buffer", torch.Size([3]), torch.float32, True),
        "inner.1.num_batches_tracked": Entry("inner.1.num_batches_tracked", "buffer", torch.Size([]), torch.int64, True),
        "twin.noise": Entry("twin.noise", "attribute", torch.Size([]), torch.float64, False),
    }


def test_what_needs_no_gradient_needs_none_without_values_either() -> None:
    module = built(Keeps, with_values=True).module
    assert not tensor_at(module, "frozen").requires_grad
    assert tensor_at(module, "inner.0.weight").requires_grad


def test_a_constructor_that_reads_values_leaves_the_generator_where_it_would_be() -> None:
    def reads() -> nn.Module:
        layer = nn.Linear(3, 3)
        assert layer.weight.abs().sum().item() > 0  # no tensor of the meta device can say
        return layer

    after = []
    for with_values in (True, False):
        torch.manual_seed(11)
        built(reads, with_values=with_values)
        after.append(torch.rand(3).tolist())
    assert after[0] == after[1]


def test_an_error_of_the_user_in_a_constructor_comes_out_as_it_is() -> None:
    def wrong() -> nn.Module:
        raise RuntimeError("layers must be even")

    for with_values in (True, False):
        with pytest.raises(RuntimeError, match="layers must be even"):
            built(wrong, with_values=with_values)


@pytest.mark.parametrize(
    ("name", "owner", "last"),
    [("frozen", "", "frozen"), ("inner.0.weight", "inner.0", "weight"), ("twin.noise", "twin", "noise")],
)
def test_a_dotted_name_leads_to_its_owner(name: str, owner: str, last: str) -> None:
    model = Keeps()
    assert owner_of(model, name) == (model.get_submodule(owner), last)


@pytest.mark.parametrize("name", ["missing.weight", "inner.7.weight", "inner.0.weight.deeper"])
def test_a_name_that_leads_nowhere_has_no_owner(name: str) -> None:
    with pytest.raises(AttributeError):
        owner_of(Keeps(), name)
    assert not has(Keeps(), name)


@pytest.mark.parametrize(
    ("name", "found"), [("cache", True), ("twin.noise", True), ("inner.1.running_var", True), ("absent", False), ("inner.0.bias", False)]
)
def test_what_is_declared_but_empty_is_not_there(name: str, found: bool) -> None:
    assert has(Keeps(), name) is found


@pytest.mark.parametrize("name", ["table", "twin.noise", "inner.1.running_mean"])
def test_a_buffer_or_attribute_is_replaced_and_keeps_its_kind(name: str) -> None:
    model = Keeps()
    before = list(model.state_dict())
    new = torch.full_like(tensor_at(model, name), 3)
    put_at(model, name, new)
    assert tensor_at(model, name) is new
    assert list(model.state_dict()) == before


def test_a_replaced_parameter_is_what_the_model_computes_with() -> None:
    layer = nn.Linear(2, 2, bias=False)
    put_at(layer, "weight", nn.Parameter(2 * torch.eye(2)))
    assert layer(torch.tensor([1.0, 3.0])).tolist() == [2.0, 6.0]
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_a_tie_among_three_is_one_parameter_under_three_names() -> None:
    def three() -> nn.Module:
        model = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(4))
        model[1].weight = model[3].weight = model[0].weight
        return model

    whole = built(three, with_values=True)
    assert [(each.name, each.tied) for each in whole.entries] == [("0.weight", ("1.weight", "3.weight")), ("2.weight", ())]
    assert whole.values is not None
    assert set(whole.values) == {"0.weight", "2.weight"}
    assert whole.names == ("0.weight", "1.weight", "2.weight", "3.weight")
    assert len({id(each) for each in whole.module.parameters()}) == 2


def test_a_model_that_is_not_sharded_gives_nothing_up() -> None:
    model = nn.Linear(2, 2)
    before = [each.clone() for each in model.parameters()]
    reshard(model, nn.Sequential(model))
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
