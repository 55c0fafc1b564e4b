"""A checkpoint of one mesh goes on under another: the whole model, the optimizer and the schedule are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bedplate.core.attempt import Attempt
from train.samples import attempt_in, journal_of

LIMIT = 1e-9  # in float64: sums in another order


def run(hosts: Any, attempt: Attempt) -> dict[str, torch.Tensor]:
    assert hosts.run(attempt) == 0, [attempt.log(rank).read_text()[-3000:] for rank in range(attempt.world_size)]
    return load_file(attempt.path / "weights.safetensors")


def known(attempt: Attempt) -> dict[str, Any]:
    return dict(journal_of(attempt, "checkpoint")[-1].body)


@pytest.fixture(scope="module")
def expected(hosts: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of one process that nothing happened to."""
    found = {}
    for model in ("decoder", "tied"):
        attempt = attempt_in(tmp_path_factory.mktemp(model), function="go_on", until=4, model=model)
        found[model] = run(hosts, attempt)
    return found


@pytest.mark.parametrize(
    ("model", "before", "after"),
    [
        ("decoder", (1, {}), (2, {"shard": 2})),
        ("decoder", (2, {"shard": 2}), (3, {"shard": 3})),
        ("decoder", (2, {"tensor": 2}), (2, {"pipeline": 2})),
        ("decoder", (4, {"shard": 2, "tensor": 2}), (2, {})),
        ("decoder", (4, {"data": 2, "pipeline": 2}), (4, {"data": 2, "shard": 2})),
        ("decoder", (4, {"data": 2, "shard": 2}), (4, {"tensor": 2, "pipeline": 2})),
        ("tied", (2, {"shard": 2}), (2, {"tensor": 2})),
        ("tied", (2, {}), (1, {})),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else ("x".join(f"{axis}{size}" for axis, size in value[1].items()) or f"data{value[0]}")
    ),
)
def test_another_mesh_goes_on(
    hosts: Any, tmp_path: Path, expected: dict[str, dict[str, torch.Tensor]], model: str, before: Any, after: Any
) -> None:
    first = attempt_in(tmp_path, world_size=before[0], function="go_on", until=2, model=model, shape=before[1])
    run(hosts, first)
    second = attempt_in(
        tmp_path, token=2, world_size=after[0], checkpoint=known(first), function="go_on", until=4, model=model, shape=after[1]
    )
    weights = run(hosts, second)
    assert weights.keys() == expected[model].keys()
    for name, tensor in weights.items():
        assert torch.allclose(tensor, expected[model][name], rtol=LIMIT, atol=LIMIT), name
    assert not journal_of(second, "message")
