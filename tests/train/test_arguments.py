from typing import Any

import pytest

from bedplate.core.errors import JobError
from bedplate.train.arguments import call_arguments


def train(run: Any, lr: float = 1e-3, *, epochs: int) -> None: ...


def alone(run: Any) -> None: ...


def anything(run: Any, **params: Any) -> None: ...


def test_parameters_lie_on_top_of_the_defaults_and_the_seed_is_for_the_context() -> None:
    assert call_arguments(train, {"epochs": 3, "seed": 7}) == {"lr": 1e-3, "epochs": 3}
    assert call_arguments(anything, {"width": 3, "seed": 7}) == {"width": 3}


def test_a_function_that_takes_the_run_alone_reads_its_params() -> None:
    assert call_arguments(alone, {"width": 3}) == {}


def test_an_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(JobError, match=r"train takes no such parameter \(got 'epoch'\). Fix: did you mean 'epochs'"):
        call_arguments(train, {"epoch": 3})


def test_a_parameter_that_nobody_gave_is_named() -> None:
    with pytest.raises(JobError, match=r"needs a parameter.*'epochs'"):
        call_arguments(train, {"lr": 1.0})
