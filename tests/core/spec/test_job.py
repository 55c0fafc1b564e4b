"""Jobs: what is one and what is not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Job


def test_a_job_is_a_function_or_a_command() -> None:
    assert Job(function="train.py:train").max_restarts == 3
    assert Job(command="python train.py").function is None
    for values in ({}, {"function": "train.py:train", "command": "x"}, {"function": "", "command": ""}):
        with pytest.raises(ValidationError):
            Job.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"function": "train"},
        {"function": "train.py:"},
        {"function": "train.py:1a"},
        {"function": "train.py:a; rm"},
        {"checkpoint": "soon"},
        {"checkpoint": {"every": "0s"}},
        {"checkpoint": {"tiers": ["floppy"]}},
        {"checkpoint": {"tiers": []}},
        {"checkpoint": {"tiers": ["disk", "disk"]}},
        {"checkpoint": {"tiers": ["s3://"]}},
        {"checkpoint": {"keep": {"last": 0}}},
        {"checkpoint": {"keep": {"best": "a loss"}}},
        {"max_time": "0h"},
        {"max_restarts": -1},
        {"max_restarts": 101},
        {"params": {"lr": float("nan")}},
        {"params": {"layers": [1, 2]}},
    ],
)
def test_what_is_no_job(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Job.model_validate({"function": "a.py:f", **values})


def test_checkpoints_are_an_interval_or_more() -> None:
    assert Job(command="x").checkpoint.every == "30s"
    for values in ("auto", {"every": "auto"}):
        found = Job.model_validate({"command": "x", "checkpoint": values}).checkpoint
        assert (found.every, found.tiers, found.keep.last) == ("auto", ("disk",), 2)
    more = {"every": "10s", "tiers": ["memory", "disk", "s3://bucket/prefix"], "keep": {"last": 3, "every": 10, "best": "-accuracy"}}
    assert Job.model_validate({"command": "x", "checkpoint": more}).model_dump(mode="json")["checkpoint"] == more


def test_parameters_keep_their_type() -> None:
    params = {"a": 1, "b": 1.0, "c": True, "d": "1", "e": None}
    kept = Job(command="x", params=params).params
    assert {name: type(value) for name, value in kept.items()} == {name: type(value) for name, value in params.items()}
