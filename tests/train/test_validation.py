"""Losses without gradients. Every mesh is held to one process by `parallels`, which measures a batch in each of its cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bedplate.core.errors import JobError
from bedplate.train.validation import mean_loss, resting
from train.samples import attempt_in


def batches(*sizes: int) -> list[tuple[int, torch.Tensor]]:
    numbers = torch.arange(float(sum(sizes)))
    return [(len(part), part) for part in numbers.split(list(sizes))]


def test_the_mean_is_that_over_rows_not_over_batches() -> None:
    assert mean_loss(batches(4, 4, 1), torch.mean, 0, 1) == pytest.approx(4.0)


def test_no_rows_are_an_error() -> None:
    with pytest.raises(JobError, match="no rows"):
        mean_loss([], torch.mean, 0, 1)


def test_modules_are_as_they_were_behind_it() -> None:
    frozen, model = torch.nn.Dropout().eval(), torch.nn.Dropout()
    both = torch.nn.Sequential(frozen, model)
    with resting(both):
        assert not model.training
        assert not torch.is_grad_enabled()
    assert model.training and both.training
    assert not frozen.training


@pytest.mark.parametrize(("world_size", "mesh"), [(2, {"pipeline": 2}), (2, {})])
def test_a_run_evaluates_a_split_as_one_process_does(hosts: Any, tmp_path: Path, world_size: int, mesh: dict[str, int]) -> None:
    found = []
    for size, shape in ((1, {}), (world_size, mesh)):
        attempt = attempt_in(tmp_path / str(size), world_size=size, function="validate_decoder", **({"mesh": shape} if shape else {}))
        assert hosts.run(attempt) == 0, [attempt.log(rank).read_text()[-3000:] for rank in range(size)]
        found.append([json.loads((attempt.path / f"valid-{rank}.json").read_text()) for rank in range(size)])
    ((alone,), ranks) = found
    for each in ranks:
        assert each["before"] == pytest.approx(alone["before"], rel=1e-5)
        assert each["after"] == pytest.approx(alone["after"], rel=1e-4)
        assert each["after"] < each["before"], "it was the trained model"
