"""State as named tensors and a tree, and back into other objects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.capture import apply, bare, capture, merged, parameter_names
from bedplate.train.checkpoints.layout import Box


class Memory:
    """A source of what was captured."""

    def __init__(self, captured: Any) -> None:
        pairs = zip(captured.held, captured.tensors, strict=True)
        self.tensors = {held.name: tensor.clone() for held, tensor in pairs}

    def whole(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def read(self, name: str, box: Box) -> torch.Tensor:
        return self.tensors[name][box.within(Box((0,) * len(box.shape), self.whole(name)))].clone()


def stepped(seed: int = 0) -> list[Any]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=5)
    for _ in range(2):
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return [model, optimizer, schedule]


def test_names_are_those_of_the_whole_model() -> None:
    captured = capture(stepped())
    names = [held.name for held in captured.held]
    assert names[0] == "0.0.weight"
    assert "1.state.0.2.weight.exp_avg" in names
    shared = {held.name: held.copies for held in captured.held}
    assert shared["0.0.weight"]
    assert not shared["0.1.running_mean"], "copies of buffers differ from rank to rank"
    assert shared["1.state.0.0.bias.exp_avg_sq"]


def test_everything_comes_back_into_other_objects() -> None:
    before, after = stepped(0), stepped(1)
    captured = capture(before)
    apply(after, captured.trees, Memory(captured))()
    for one, other in zip(before[0].state_dict().values(), after[0].state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert str(before[1].state_dict()) == str(after[1].state_dict())
    assert before[2].state_dict() == after[2].state_dict()


def test_reading_changes_nothing_before_all_is_read() -> None:
    before, after = stepped(0), stepped(1)
    captured = capture(before)
    source = Memory(captured)
    weight = after[0][0].weight.detach().clone()
    del source.tensors["1.state.0.2.bias.exp_avg"]
    with pytest.raises(KeyError):
        apply(after, captured.trees, source)
    assert torch.equal(after[0][0].weight, weight)


def test_tied_tensors_are_kept_once() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
            self.outer.weight = self.inner.weight

    before, after = Tied(), Tied()
    captured = capture([before])
    assert [held.name for held in captured.held] == ["0.inner.weight"]
    apply([after], captured.trees, Memory(captured))()
    assert torch.equal(after.outer.weight, before.inner.weight)


def test_trees_of_parts_are_put_together() -> None:
    whole = stepped()
    model, optimizer = whole[0], torch.optim.AdamW(whole[0].parameters())
    model(torch.randn(8, 3)).sum().backward()
    optimizer.step()
    parts = []
    for part in (model[0], model[2]):
        holder = torch.nn.Module()
        holder.add_module("0" if part is model[0] else "2", part)
        own = torch.optim.AdamW(holder.parameters())
        own.load_state_dict({"state": {}, "param_groups": own.state_dict()["param_groups"]})
        own.state.update({parameter: optimizer.state[parameter] for parameter in part.parameters()})
        parts.append(capture([holder, own]))
    together = merged([part.trees for part in parts])
    assert [key for key, _ in together[0]["module"]["d"]] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    states = dict(dict(together[1]["optimizer"]["d"])["state"]["d"])
    assert set(states) == {"0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias"}


@pytest.mark.parametrize("change", ["shape", "objects", "groups", "more"])
def test_what_does_not_fit_is_refused(change: str) -> None:
    captured = capture(stepped())
    other = torch.nn.Sequential(torch.nn.Linear(3, 5 if change == "shape" else 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    if change == "more":
        other.append(torch.nn.Linear(1, 1))
    optimizer = torch.optim.AdamW(other.parameters())
    state = [other, optimizer, torch.optim.lr_scheduler.LinearLR(optimizer)]
    with pytest.raises(CheckpointError, match=r"another shape|another loop|parameter groups|does not fit"):
        apply(state[:2] if change == "objects" else state, captured.trees, Memory(captured))()


def test_state_that_cannot_be_kept_is_named() -> None:
    class Odd:
        def state_dict(self) -> dict[str, object]:
            return {"open": object()}

    with pytest.raises(CheckpointError, match=r"0\.open: object"):
        capture([Odd()])


def test_what_has_no_wrapper_is_itself() -> None:
    layer = torch.nn.Linear(1, 1)
    assert bare(layer) is layer


def test_parameters_have_the_name_of_the_first_module_that_has_them() -> None:
    inner = torch.nn.Linear(2, 2)
    outer = torch.nn.ModuleDict({"inner": inner, "other": torch.nn.Linear(2, 1, bias=False)})
    names = parameter_names([torch.optim.SGD(inner.parameters()), outer, inner])
    assert names == {
        id(inner.weight): "1.inner.weight", id(inner.bias): "1.inner.bias", id(outer["other"].weight): "1.other.weight",
    }  # fmt: skip


def test_a_parameter_of_no_module_is_kept_by_its_place_in_the_optimizer() -> None:
    def loose(value: float) -> tuple[torch.nn.Linear, torch.nn.Parameter, torch.optim.SGD]:
        layer, alone = torch.nn.Linear(1, 1, bias=False), torch.nn.Parameter(torch.tensor([value]))
        groups = [{"params": [layer.weight]}, {"params": [alone], "lr": value}]
        optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
        (layer.weight.sum() + alone.sum() * value).backward()
        optimizer.step()
        return layer, alone, optimizer

    layer, _, optimizer = loose(3.0)
    captured = capture([layer, optimizer])
    assert {held.name for held in captured.held if held.name.startswith("1.")} == {
        "1.state.0.weight.momentum_buffer", "1.state.group.1.0.momentum_buffer",
    }  # fmt: skip
    other_layer, other, other_optimizer = loose(5.0)
    apply([other_layer, other_optimizer], captured.trees, Memory(captured))()
    assert other_optimizer.state[other]["momentum_buffer"].tolist() == [3.0]
    assert [group["lr"] for group in other_optimizer.param_groups] == [0.5, 3.0]
    assert other.item() == 5.0 - 25.0, "the value itself is nobody's state"


def test_what_an_optimizer_has_not_touched_yet_has_no_state_and_gets_none() -> None:
    layer = torch.nn.Linear(2, 2)
    captured = capture([layer, torch.optim.AdamW(layer.parameters(), lr=0.25)])
    assert {held.name for held in captured.held} == {"0.weight", "0.bias"}
    other = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(other.parameters())
    apply([other, optimizer], captured.trees, Memory(captured))()
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_tensors_are_those_that_training_goes_on_with() -> None:
    layer = torch.nn.Linear(2, 2)
    captured = capture([layer])
    assert captured.tensors[0].data_ptr() == layer.weight.data_ptr()
    assert not captured.tensors[0].requires_grad
    assert (captured.held[0].dtype, captured.held[0].whole, captured.held[0].box) == ("float32", (2, 2), Box((0, 0), (2, 2)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_types_are_kept(dtype: torch.dtype) -> None:
    def holder(value: int) -> torch.nn.Module:
        made = torch.nn.Module()
        made.register_buffer("values", torch.tensor([value, 0]).to(dtype))
        return made

    captured, other = capture([holder(1)]), holder(0)
    assert captured.held[0].dtype == str(dtype).removeprefix("torch.")
    apply([other], captured.trees, Memory(captured))()
    assert other.values.dtype == dtype
    assert other.values.tolist() == torch.tensor([1, 0]).to(dtype).tolist()


def test_a_type_that_no_file_has_is_refused_by_name() -> None:
    layer = torch.nn.Linear(1, 1, dtype=torch.complex128)
    with pytest.raises(CheckpointError, match=r"0\.weight: complex128"):
        capture([layer])


def test_two_views_of_one_memory_that_differ_are_two_tensors() -> None:
    made = torch.nn.Module()
    base = torch.arange(6.0)
    made.register_buffer("all", base)
    made.register_buffer("some", base[:3])
    made.register_buffer("again", base[:])
    assert [held.name for held in capture([made]).held] == ["0.all", "0.some"]


def test_empty_tensors_are_not_taken_for_tied() -> None:
    made = torch.nn.Module()
    made.register_buffer("one", torch.empty(0))
    made.register_buffer("other", torch.empty(0))
    assert [held.name for held in capture([made]).held] == ["0.one", "0.other"]


def test_state_of_a_modules_own_is_kept_with_its_tensors() -> None:
    class Extra(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extra: Any = {"seen": 0}

        def get_extra_state(self) -> Any:
            return self.extra

        def set_extra_state(self, state: Any) -> None:
            self.extra = state

    before, after = Extra(), Extra()
    before.extra = {"seen": 3, "mean": torch.tensor([1.5]), "pair": (1, 2)}
    captured = capture([before])
    apply([after], captured.trees, Memory(captured))()
    assert (after.extra["seen"], after.extra["mean"].tolist(), after.extra["pair"]) == (3, [1.5], (1, 2))


def test_a_bare_module_has_the_names_of_one_that_is_wrapped() -> None:
    layer = torch.nn.Linear(1, 1)
    wrapped = DistributedDataParallel.__new__(DistributedDataParallel)
    torch.nn.Module.__init__(wrapped)
    wrapped.module = layer
    assert bare(wrapped) is layer
    assert [held.name for held in capture([wrapped]).held] == [held.name for held in capture([layer]).held] == ["0.weight", "0.bias"]


def test_the_tree_of_one_rank_is_the_whole() -> None:
    trees = capture(stepped()).trees
    assert merged([trees]) == trees
    assert merged([trees, trees, trees]) == trees
