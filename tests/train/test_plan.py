import pytest
import torch
import transformers

from bedplate.core.errors import JobError
from bedplate.train.plan import Parallelizable, Plan, plan_of
from train.parallels import build


class Own(torch.nn.Module):
    """A user's model that names its plan."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))

    def parallel_plan(self) -> Plan:
        return Plan("blocks", (), (), lambda part, inputs, is_first, is_last: inputs)


def test_a_model_names_its_own_plan() -> None:
    assert isinstance(Own(), Parallelizable)
    assert plan_of(Own()).blocks == "blocks"


@pytest.mark.parametrize("kind", ["decoder", "llama", "qwen2", "qwen3", "mistral"])
def test_every_name_of_a_plan_that_ships_is_in_its_model(kind: str) -> None:
    model = build(kind)
    plan = plan_of(model)
    names = {name for name, _ in model.named_modules()}
    optional = {"model.layers.*.self_attn.q_norm", "model.layers.*.self_attn.k_norm"}
    for name in (plan.blocks, *plan.first, *plan.last, *(set(plan.tensor) - optional)):
        assert name.replace("*", "0") in names
    assert plan.divided["vocabulary"] == 32


@pytest.mark.parametrize("kind", ["decoder", "llama"])
def test_a_part_that_is_the_whole_answers_like_the_model(kind: str) -> None:
    model = build(kind)
    plan = plan_of(model)
    tokens = torch.randint(0, 32, (2, 6))
    answer = model(tokens)
    wanted = answer if kind == "decoder" else answer.logits
    assert torch.equal(plan.forward(model, tokens, True, True), wanted)
    if kind == "llama":
        assert torch.equal(plan.answer(wanted).logits, wanted)


def test_a_model_without_a_plan_is_told_what_it_can_use() -> None:
    with pytest.raises(JobError, match="`data` and `shard`, which take any module"):
        plan_of(torch.nn.Linear(2, 2))


def test_layers_of_several_kinds_are_not_cut() -> None:
    config = transformers.Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        use_sliding_window=True, max_window_layers=1, sliding_window=4,
    )  # fmt: skip
    with pytest.raises(JobError, match="several kinds"):
        plan_of(transformers.Qwen2ForCausalLM(config))
