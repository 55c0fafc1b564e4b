"""State as named tensors and a tree, and back into other objects."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.capture import apply, bare, capture, merged
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
