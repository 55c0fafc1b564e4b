"""Tied embeddings under a pipeline. That training is right is shown by `test_pipeline`, with the cases named tied."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from bedplate.core.errors import JobError
from bedplate.train.decoder import Decoder
from bedplate.train.plan import plan_of
from bedplate.train.stages import part_of
from bedplate.train.tied import shown, tied_ends
from bedplate.train.values import Whole, built, tensor_at
from train.parallels import CONFIG, build

NAMES = {"head.weight": "embedding.weight"}


def tied() -> Whole:
    return built(lambda: build("tied"), with_values=True)


def test_the_last_stage_has_a_copy_of_its_own() -> None:
    whole = tied()
    assert tied_ends(whole, plan_of(whole.module)) == NAMES
    first, last = (tensor_at(whole.module, name) for name in ("embedding.weight", "head.weight"))
    assert first is not last
    assert first.shape == last.shape


def test_a_model_that_ties_nothing_has_no_copies() -> None:
    whole = built(lambda: build("decoder"), with_values=True)
    assert tied_ends(whole, plan_of(whole.module)) == {}


def test_what_is_tied_in_another_way_is_refused() -> None:
    def strange() -> nn.Module:
        model = Decoder(CONFIG)
        model.layers[0].feed.up.weight = model.layers[3].feed.up.weight
        return model

    whole = built(strange, with_values=False)
    with pytest.raises(JobError, match="cannot hold these tied parameters"):
        tied_ends(whole, plan_of(whole.module))


@pytest.mark.parametrize("stage", [0, 1])
def test_an_optimizer_sees_the_parameter_in_the_first_stage_only(stage: int) -> None:
    model = Decoder(dataclasses.replace(CONFIG, tied=False))
    part = part_of(model, plan_of(model), [stage], 2)
    named = dict(shown(part, NAMES).named_parameters())
    assert ("embedding.weight" in named) == (stage == 0)
    assert "head.weight" not in named
    assert "head.weight" in dict(part.named_parameters()) or stage == 0, "the stage itself computes with it"


def test_the_first_stage_is_saved_under_both_names_and_loaded_from_both() -> None:
    model = Decoder(CONFIG)
    first = shown(part_of(model, plan_of(model), [0], 2), NAMES)
    state: dict[str, Any] = first.state_dict()
    assert state["head.weight"].data_ptr() == state["embedding.weight"].data_ptr(), "a checkpoint keeps it once"
    first.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in state.items()})
    assert not first.state_dict()["embedding.weight"].any()
    last = shown(part_of(model, plan_of(model), [1], 2), NAMES)
    assert "head.weight" not in last.state_dict()
