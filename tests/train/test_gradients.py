from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from bedplate.train.gradients import clip


@pytest.fixture
def alone(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A process group of one rank."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def parameters() -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(torch.randn(4, 6)), torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2))]
    made[0].grad, made[1].grad = torch.randn(4, 6), torch.randn(3)  # the third took no part
    return made


def test_it_does_what_torch_does_in_one_process(alone: None) -> None:
    torch.manual_seed(2)
    ours = parameters()
    theirs = [torch.nn.Parameter(each.detach().clone()) for each in ours]
    for mine, other in zip(ours, theirs, strict=True):
        other.grad = mine.grad.clone() if mine.grad is not None else None
    norm = clip(ours, 0.5, 1)
    assert torch.allclose(norm.float(), torch.nn.utils.clip_grad_norm_(theirs, 0.5))
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad is None) == (other.grad is None)
        assert mine.grad is None or torch.allclose(mine.grad, other.grad)


def test_short_gradients_are_left_alone_and_none_have_no_norm(alone: None) -> None:
    [parameter] = [torch.nn.Parameter(torch.zeros(2))]
    parameter.grad = torch.tensor([0.3, 0.4])
    assert float(clip([parameter], 1.0, 1)) == pytest.approx(0.5)
    assert parameter.grad.tolist() == pytest.approx([0.3, 0.4])
    assert float(clip([], 1.0, 1)) == 0.0


@pytest.mark.parametrize("placement", [Shard(0), Replicate()])
def test_pieces_of_a_gradient_are_cut_in_place(alone: None, placement: Shard | Replicate) -> None:
    mesh = init_device_mesh("cpu", (1,))
    parameter = torch.nn.Parameter(distribute_tensor(torch.zeros(2), mesh, [placement]))
    parameter.grad = distribute_tensor(torch.tensor([3.0, 4.0]), mesh, [placement])
    assert float(clip([parameter], 1.0, 1)) == pytest.approx(5.0)
    assert parameter.grad.full_tensor().tolist() == pytest.approx([0.6, 0.8], abs=1e-5)
