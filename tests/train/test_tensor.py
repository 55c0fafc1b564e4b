import pytest
import torch

from bedplate.core.errors import JobError
from bedplate.train.plan import Plan, plan_of
from bedplate.train.tensor import _style_of, check_divided
from train.parallels import CONFIG, assert_equal, build


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("embedding", "embedding"),
        ("layers.0.attention.query", "column"),
        ("layers.12.feed.down", "row"),
        ("layers.0.attention", None),
        ("layers.x.feed.down", None),
        ("embedding.deeper", None),
    ],
)
def test_a_pattern_stands_for_every_block(name: str, style: str | None) -> None:
    assert _style_of(name, plan_of(build("decoder"))) == style


def test_ranks_that_do_not_divide_a_model_are_told_what_it_has() -> None:
    plan = plan_of(build("decoder"))
    check_divided(plan, CONFIG.key_value_heads)
    with pytest.raises(JobError, match="key-value heads"):
        check_divided(plan, 4)
    with pytest.raises(JobError, match="names no tensors"):
        check_divided(Plan("blocks", (), (), lambda part, inputs, is_first, is_last: inputs), 2)


def test_norms_of_heads_see_the_heads_of_all_ranks(parity) -> None:  # type: ignore[no-untyped-def]
    trained, wanted = parity.trained("TP qwen3"), parity.trained("one qwen3")
    norms = [name for name in wanted.names if name.endswith("q_norm.weight")]
    assert norms
    assert all(not torch.equal(wanted.weights[name], torch.ones(4)) for name in norms)
    assert_equal(trained, wanted)
