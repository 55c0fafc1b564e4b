from typing import Any

import pytest
import torch

from bedplate.core.errors import JobError
from bedplate.train.mesh import STAGES_PER_RANK, Mesh
from bedplate.train.plan import plan_of
from bedplate.train.stages import blocks_of, holders, part_of, stage_of
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
