import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bedplate.core.attempt import Attempt
from bedplate.train.decoder import Decoder
from bedplate.train.execution import Execution
from bedplate.train.mesh import Mesh
from bedplate.train.parallel import parallel_for, reseed
from train.parallels import CONFIG, LIMIT, assert_equal
from train.samples import attempt_in, journal_of

MESHES: dict[str, dict[str, Any]] = {
    "one": {"world_size": 1},
    "copies": {"world_size": 2, "accumulate": 2},
    "sharded": {"world_size": 2, "mesh": {"shard": 2}},
    "all": {"world_size": 8, "mesh": {"data": 2, "tensor": 2, "pipeline": 2}},
}


@pytest.mark.parametrize("name", ["DP", "DP in micro-batches"])
def test_copies_train_as_one_process(parity: Any, name: str) -> None:
    assert_equal(parity.trained(name), parity.trained("one"))


def learned(attempt: Attempt, rank: int) -> dict[str, list[float]]:
    return json.loads((attempt.path / f"learned-{rank}.json").read_text())


@pytest.fixture(scope="module")
def trained(hosts: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Attempt]:
    """The same job under several meshes, as the run context runs it."""
    done = {}
    for name, spec in MESHES.items():
        done[name] = attempt_in(tmp_path_factory.mktemp(name), function="train_decoder", params={"seed": 3}, **spec)
        code = hosts.run(done[name])
        assert code == 0, "".join(path.read_text() for path in sorted((done[name].path / "logs").iterdir()))[-5000:]
    return done


@pytest.mark.parametrize("name", ["copies", "sharded", "all"])
def test_a_job_ends_with_the_same_model_whatever_its_mesh(trained: dict[str, Attempt], name: str) -> None:
    ours, wanted = (load_file(trained[each].out / "model" / "model.safetensors") for each in (name, "one"))
    assert set(ours) == set(Decoder(CONFIG).state_dict())
    for key, tensor in wanted.items():
        assert (ours[key] - tensor).norm() <= 0.02 * tensor.norm(), key  # float32: AdamW enlarges rounding where gradients are small
    assert learned(trained[name], 0)["norms"] == pytest.approx(learned(trained["one"], 0)["norms"], rel=1e-2)


@pytest.mark.parametrize("name", ["copies", "sharded", "all"])
def test_the_logged_loss_is_the_mean_over_all_samples(trained: dict[str, Attempt], name: str) -> None:
    ours, wanted = ([entry.body["values"]["loss"] for entry in journal_of(trained[each], "metric")] for each in (name, "one"))
    assert len(ours) == 10
    assert ours[0] == pytest.approx(wanted[0], rel=LIMIT)
    assert ours == pytest.approx(wanted, rel=1e-3)


def test_ranks_that_share_samples_get_the_same_loss(trained: dict[str, Attempt]) -> None:
    mesh = Mesh.of(MESHES["all"]["mesh"], 8)
    by_part: dict[int, list[list[float]]] = {}
    for rank in range(8):
        by_part.setdefault(mesh.batch_rank(rank), []).append(learned(trained["all"], rank)["losses"])
    for losses in by_part.values():
        assert len(losses) == 4
        assert all(each == pytest.approx(losses[0], rel=LIMIT) for each in losses)
    assert by_part[0][0] != by_part[1][0]


@pytest.mark.parametrize(
    ("spec", "function", "said"),
    [
        ({"mesh": {"tensor": 3}}, "train_decoder", "let the axes multiply to 2"),
        ({"mesh": {"context": 2}}, "train_decoder", "use `context: 1`"),
        ({"mesh": {"tensor": 2}}, "train", "has no plan"),
        ({"mesh": {"pipeline": 2}}, "wrong_use", "run.backward"),
    ],
)
def test_a_mesh_that_cannot_be_run_fails_with_its_fix(hosts: Any, tmp_path: Path, spec: dict[str, Any], function: str, said: str) -> None:
    attempt = attempt_in(tmp_path, world_size=2, function=function, **spec)
    assert hosts.run(attempt) == 1
    [failure] = journal_of(attempt, "failure")
    assert failure.body["failure"] == "user_error"
    assert said in failure.body["message"]


def test_ranks_with_samples_of_their_own_draw_for_themselves() -> None:
    drawn = []
    for part in (0, 0, 1):
        reseed(7, part)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1] != drawn[2]


def test_one_process_has_the_weights_of_its_module() -> None:
    parallel = parallel_for(Mesh(), 0, torch.device("cpu"), Execution(), 0)
    model = parallel.build(lambda: torch.nn.Linear(2, 1))
    called: list[bool] = []
    loss = parallel.backward(model, lambda net, batch: net(batch).mean(), torch.ones(4, 2), lambda: called.append(True))
    assert not loss.requires_grad
    assert called == [True]
    assert model.weight.grad is not None
    assert list(parallel.weights(model) or {}) == ["weight", "bias"]
