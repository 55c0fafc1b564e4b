from typing import Any

import pytest
import torch

from bedplate.core.errors import JobError
from bedplate.train.execution import Execution, apply, blocks_in, checked_loss, micro_batches
from train.parallels import build, next_token_loss

CPU = torch.device("cpu")
BATCH = {"tokens": torch.arange(24).reshape(4, 6), "name": "kept as it is"}


def gradients(execution: Execution) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = build("decoder")
    names = list(model.state_dict())
    apply(execution, model, CPU)
    assert list(model.state_dict()) == names
    loss = next_token_loss(model, BATCH)
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_recomputed_activations_change_no_bit() -> None:
    plain, recomputed = gradients(Execution()), gradients(Execution(activation_checkpointing=True))
    assert torch.equal(plain[0], recomputed[0])
    assert all(torch.equal(plain[1][name], recomputed[1][name]) for name in plain[1])


def test_bfloat16_computes_in_less_and_keeps_weights_whole() -> None:
    (plain, wanted), (mixed, found) = gradients(Execution()), gradients(Execution(precision="bf16"))
    assert mixed.dtype == torch.float32
    assert plain != mixed
    assert torch.allclose(plain, mixed, rtol=1e-2)
    assert all(found[name].dtype == torch.float32 for name in wanted)
    flat = [torch.cat([each[name].flatten() for name in sorted(wanted)]) for each in (wanted, found)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.99


def test_compiled_blocks_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    model = build("decoder")
    apply(Execution(compile=True), model, CPU)
    assert compiled == list(model.get_submodule("layers").children())


def test_blocks_are_the_elements_of_lists() -> None:
    assert len(blocks_in(build("decoder"))) == 4
    assert len(blocks_in(build("llama"))) == 4
    assert blocks_in(torch.nn.Linear(1, 1)) == []
    assert blocks_in(torch.nn.ModuleList([torch.nn.ReLU()])) == []


@pytest.mark.parametrize("batch", [BATCH, BATCH["tokens"], (BATCH["tokens"], torch.ones(4)), [BATCH]])
def test_micro_batches_are_equal_parts_in_order(batch: Any) -> None:
    parts = list(micro_batches(batch, 2))
    assert len(parts) == 2
    assert [type(part) for part in parts] == [type(batch)] * 2
    rows = [part["tokens"] if isinstance(part, dict) else part for part in parts]
    if batch is BATCH:
        assert torch.equal(torch.cat(rows), BATCH["tokens"])
        assert parts[1]["name"] == "kept as it is"


def test_one_micro_batch_is_the_batch_itself() -> None:
    assert next(micro_batches(BATCH, 1)) is BATCH


def test_rows_that_cannot_be_divided() -> None:
    with pytest.raises(JobError, match="multiple of 3"):
        list(micro_batches(BATCH, 3))


@pytest.mark.parametrize("loss", [torch.zeros(2), 1.0, None])
def test_a_loss_is_one_number(loss: Any) -> None:
    with pytest.raises(JobError, match="one number"):
        checked_loss(loss)


def test_settings_come_from_the_steps_spec() -> None:
    assert Execution.of({}) == Execution()
    spec = {"precision": "bf16", "accumulate": 4, "activation_checkpointing": True, "compile": True}
    assert Execution.of(spec) == Execution("bf16", 4, True, True)
