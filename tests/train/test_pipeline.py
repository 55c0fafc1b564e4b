from collections.abc import Callable
from typing import Any

import pytest
import torch

from bedplate.core.errors import JobError
from bedplate.train.pipeline import Answering, model_inputs
from train.parallels import CASES, assert_equal, kind_of, next_token_loss

NAMES = [each["name"] for cases in CASES.values() for each in cases if "pipeline" in each["mesh"]]
TOKENS = torch.arange(12).reshape(2, 6)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_trains_as_one_process(parity: Any, name: str) -> None:
    assert_equal(parity.trained(name), parity.trained(kind_of(name)))


def test_the_first_stage_learns_what_the_model_is_called_with() -> None:
    assert torch.equal(model_inputs(next_token_loss, {"tokens": TOKENS}), TOKENS[:, :-1])


def test_the_last_stage_computes_the_loss_of_what_came_out() -> None:
    logits = torch.randn(2, 5, 12)
    assert next_token_loss(Answering(logits), {"tokens": TOKENS}) == next_token_loss(lambda _: logits, {"tokens": TOKENS})


@pytest.mark.parametrize(
    ("loss_function", "said"),
    [
        (lambda model, batch: batch["tokens"].float().mean(), "does not call the model"),
        (lambda model, batch: model(batch["tokens"], batch["tokens"]), r"model\(tokens\)"),
        (lambda model, batch: model("text"), r"model\(tokens\)"),
    ],
)
def test_a_loss_function_that_no_pipeline_can_run_is_an_error(loss_function: Callable[..., Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        model_inputs(loss_function, {"tokens": TOKENS})


def test_a_model_is_called_once() -> None:
    stand_in = Answering(TOKENS)
    stand_in(TOKENS)
    with pytest.raises(JobError, match="only once"):
        stand_in(TOKENS)
