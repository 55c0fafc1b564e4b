from typing import Any

import pytest
import torch

from bedplate.core.errors import JobError
from bedplate.train.execution import Execution
from bedplate.train.mesh import Mesh
from bedplate.train.parallel import parallel_for
from train.parallels import CASES, assert_equal, kind_of

NAMES = [each["name"] for size, cases in CASES.items() if size > 1 for each in cases if "pipeline" not in each["mesh"] and each["mesh"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_sharded_model_trains_as_in_one_process(parity: Any, name: str) -> None:
    assert_equal(parity.trained(name), parity.trained(kind_of(name)))


def test_training_changed_every_parameter(parity: Any) -> None:
    trained = parity.trained("one")
    assert trained.losses[0] != trained.losses[-1]
    assert max(trained.norms) > 0.5  # gradients were cut
    assert all(float(tensor.std()) > 0 for tensor in trained.weights.values())


@pytest.mark.parametrize(
    ("mesh", "execution", "said"),
    [
        (Mesh(context=2), Execution(), "context: 1"),
        (Mesh(pipeline=2, schedule="ZBVZeroBubble"), Execution(activation_checkpointing=True), "cannot recompute"),
    ],
)
def test_a_mesh_that_cannot_be_run_is_one_error_with_its_fix(mesh: Mesh, execution: Execution, said: str) -> None:
    with pytest.raises(JobError, match=said):
        parallel_for(mesh, 0, torch.device("cpu"), execution, 0)
