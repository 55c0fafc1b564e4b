from typing import Any

import pytest
import torch

from bedplate.core.errors import JobError
from bedplate.train.mesh import STAGES_PER_RANK, Mesh
from bedplate.train.plan import plan_of
from bedplate.train.stages import blocks_of, holders, part_of, part_of_part, stage_of, without_parameter
from train.parallels import build

TOKENS = torch.randint(0, 32, (2, 6))


@pytest.mark.parametrize("kind", ["decoder", "llama"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_stages_one_after_the_other_are_the_model(kind: str, count: int) -> None:
    model = build(kind)
    plan = plan_of(model)
    hidden: Any = TOKENS
    for number in range(count):
        hidden = stage_of(part_of(model, plan, [number], count), model, plan, number, count)(hidden)
    answer = model(TOKENS)
    assert torch.equal(hidden, answer if kind == "decoder" else answer.logits)


@pytest.mark.parametrize("kind", ["decoder", "llama"])
@pytest.mark.parametrize("schedule", sorted(STAGES_PER_RANK))
def test_every_parameter_is_in_one_part_under_its_own_name(kind: str, schedule: str) -> None:
    model = build(kind)
    plan, mesh = plan_of(model), Mesh(pipeline=2, schedule=schedule)
    parts = [part_of(model, plan, mesh.stages_of(rank), mesh.stages) for rank in range(2)]
    names = [name for part in parts for name, _ in part.named_parameters()]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    holder_of = holders(model, plan, mesh, names)
    for rank, part in enumerate(parts):
        assert {holder_of[name] for name, _ in part.named_parameters()} == {rank}


def test_what_replaces_a_tensor_in_a_stage_replaces_it_in_the_part() -> None:
    model = build("decoder")
    plan = plan_of(model)
    part = part_of(model, plan, [0, 3], 4)
    stage = stage_of(part, model, plan, 3, 4)
    new = torch.nn.Parameter(torch.zeros(16))
    stage.get_submodule("norm").weight = new
    assert part.get_parameter("norm.weight") is new
    stage.register_forward_hook(lambda *_: None)
    assert not part._forward_hooks


def test_the_ends_get_the_smaller_shares() -> None:
    model = build("decoder")
    assert [len(each) for each in blocks_of(model, plan_of(model), 3)] == [1, 2, 1]


def test_more_stages_than_blocks() -> None:
    model = build("decoder")
    with pytest.raises(JobError, match="at least 5 blocks"):
        blocks_of(model, plan_of(model), 5)


@pytest.mark.parametrize(("stages", "sizes"), [(1, [4]), (2, [2, 2]), (3, [1, 2, 1]), (4, [1, 1, 1, 1])])
def test_blocks_are_dealt_without_gap_or_overlap(stages: int, sizes: list[int]) -> None:
    model = build("decoder")
    ranges = blocks_of(model, plan_of(model), stages)
    assert [len(each) for each in ranges] == sizes
    assert [number for each in ranges for number in each] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("blocks", "stages", "sizes"),
    [(5, 3, [2, 2, 1]), (7, 4, [2, 2, 2, 1]), (10, 4, [2, 3, 3, 2]), (11, 3, [4, 4, 3]), (6, 5, [1, 1, 2, 1, 1])],
)
def test_what_is_left_over_goes_to_the_middle(blocks: int, stages: int, sizes: list[int]) -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Identity() for _ in range(blocks))

    found = [len(each) for each in blocks_of(Bare(), plan_of(build("decoder")), stages)]
    assert found == sizes


def test_a_stage_of_the_middle_has_neither_end() -> None:
    model = build("decoder")
    plan = plan_of(model)
    names = {name.partition(".")[0] for name, _ in part_of(model, plan, [1], 3).named_parameters()}
    assert names == {"layers"}
    assert {name.split(".")[1] for name, _ in part_of(model, plan, [1], 3).named_parameters()} == {"1", "2"}


def test_a_part_shares_its_tensors_with_the_model_and_leaves_the_model_whole() -> None:
    model = build("decoder")
    plan, before = plan_of(model), list(model.state_dict())
    part = part_of(model, plan, [0], 2)
    assert list(model.state_dict()) == before
    assert all(parameter is model.get_parameter(name) for name, parameter in part.named_parameters())


def test_a_stage_of_a_part_with_two_has_only_its_own_blocks() -> None:
    model = build("decoder")
    plan = plan_of(model)
    part = part_of(model, plan, [0, 2], 4)
    found = [
        {name.split(".")[1] for name, _ in part_of_part(part, model, plan, stage, 4).named_parameters() if name.startswith("layers.")}
        for stage in (0, 2)
    ]
    assert found == [{"0"}, {"2"}]


def test_a_parameter_is_left_out_below_copies_of_what_is_above_it() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
    without = without_parameter(model, "1.0.bias")
    assert [name for name, _ in without.named_parameters()] == ["0.weight", "0.bias", "1.0.weight"]
    assert len(list(model.parameters())) == 4
    assert without.get_parameter("1.0.weight") is model.get_parameter("1.0.weight")
    assert without.get_submodule("0") is model.get_submodule("0"), "what is beside it is shared"
    assert without.get_submodule("1") is not model.get_submodule("1")


def test_a_parameter_of_the_module_itself_is_left_out() -> None:
    layer = torch.nn.Linear(2, 2)
    assert [name for name, _ in without_parameter(layer, "weight").named_parameters()] == ["bias"]
    assert len(list(layer.parameters())) == 2


def test_tensors_of_no_stage_are_held_by_the_first() -> None:
    model = build("decoder")
    plan, mesh = plan_of(model), Mesh(pipeline=2)
    assert holders(model, plan, mesh, ["frequencies", "layers.0.x", "layers.3.x", "embedding.weight", "norm.weight"]) == {
        "frequencies": 0, "layers.0.x": 0, "layers.3.x": 1, "embedding.weight": 0, "norm.weight": 1,
    }  # fmt: skip
