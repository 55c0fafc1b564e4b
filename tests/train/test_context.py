import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LinearRegression

from bedplate.core.attempt import Attempt
from bedplate.core.errors import DataError, JobError
from bedplate.core.versions import Output
from bedplate.train.bundle import ModelVersion
from bedplate.train.context import RunContext, execute
from bedplate.train.notice import Stopped
from train.samples import attempt_in, build_net, flights_feed, journal_of, squared_error, train


def bodies(attempt: Attempt, kind: str) -> list[dict[str, Any]]:
    return [dict(entry.body) for entry in journal_of(attempt, kind)]


def call(tmp_path: Path, function: Callable[..., Any], **spec: Any) -> tuple[Attempt, Any]:
    attempt = attempt_in(tmp_path, **spec)
    return attempt, execute(attempt, flights_feed(), 0, function)


def test_a_run_saves_a_model_that_answers_and_says_so(tmp_path: Path) -> None:
    attempt, output = call(tmp_path, train, params={"epochs": 3, "seed": 4})
    assert isinstance(output, Output)
    assert bodies(attempt, "output") == [output.to_json()]
    assert (output.name, output.kind, output.location) == ("delay", "model", "runs/r1/1/out/model")
    assert output.meta["params"] == bodies(attempt, "param")[0]["values"]
    assert output.meta["params"]["epochs"] == 3
    losses = [body["values"]["loss"] for body in bodies(attempt, "metric")]
    assert len(losses) == 30
    assert losses[-1] < losses[0]
    assert output.meta["metrics"]["loss"] == losses[-1]
    version = ModelVersion(tmp_path / output.location, digest=output.digest)
    net = version.module(lambda: build_net(version.signature))
    assert net(version.encode([{"delay": 1.0, "distance": 2, "carrier": None}])).shape == (1,)


def test_progress_begins_with_the_first_step_and_ends_with_all(tmp_path: Path) -> None:
    attempt, _ = call(tmp_path, train)
    progress = bodies(attempt, "progress")
    assert progress[0] == {"done": 64, "total": 1280, "unit": "samples", "note": "epoch 1 of 2"}
    assert progress[-1] == {"done": 1280, "total": 1280, "unit": "samples", "note": "epoch 2 of 2"}


def test_one_seed_gives_one_model_and_another_another(tmp_path: Path) -> None:
    digests = [
        call(tmp_path / str(place), train, params={"seed": seed})[1].meta["files"]["model.safetensors"]["sha256"]
        for place, seed in enumerate([1, 1, 2])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_plain_pytorch_and_a_plain_pass_in_order(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def plain(run: RunContext) -> None:
        model = build_net(run.signature)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        for batch in run.batches("train", state=[model, optimizer], batch_size=320):
            loss = squared_error(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seen["labels"] = torch.cat([batch["label"] for batch in run.batches("valid", batch_size=32)])
        seen["shapes"] = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in batch.items()}

    attempt, _ = call(tmp_path, plain)
    assert seen["labels"].tolist() == torch.from_numpy(flights_feed().columns("valid")["arr_delay"]).float().tolist()
    assert seen["shapes"] == {
        "numeric": (torch.float32, (320, 3)),
        "categorical": (torch.int64, (320, 1)),
        "label": (torch.float32, (320,)),
    }
    assert bodies(attempt, "checkpoint") == []


def test_gradients_are_cut_and_cleared(tmp_path: Path) -> None:
    def one_step(run: RunContext) -> tuple[float, Any]:
        model = run.parallelize(lambda: torch.nn.Linear(1, 1, bias=False))
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        before = float(next(model.parameters()).detach())
        loss = run.backward(lambda net, batch: 1000 * net(batch["x"]).sum(), {"x": torch.ones(1, 1)})
        assert not loss.requires_grad
        run.update(optimizer, clip=0.5)
        return before - float(next(model.parameters()).detach()), next(model.parameters()).grad

    moved, gradient = call(tmp_path, one_step)[1]
    assert moved == pytest.approx(0.5, abs=1e-4)
    assert gradient is None


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda run: run.backward(squared_error, {}), "run.parallelize"),
        (lambda run: (run.parallelize(lambda: torch.nn.Linear(1, 1)), run.backward(lambda *_: torch.zeros(2), {})), "must be one number"),
        (lambda run: list(run.batches("train", state=[], batch_size=641)), "at most 640"),
        (lambda run: list(run.batches("train", state=[], batch_size=0)), "batch size"),
        (lambda run: run.log(loss="low"), "'loss'"),
    ],
)
def test_a_broken_contract_is_an_error_with_its_fix(tmp_path: Path, function: Callable[..., Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        call(tmp_path, function)


def test_unknown_parameters_are_found_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="did you mean 'epochs'"):
        call(tmp_path, train, params={"epoch": 3})


def test_data_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        execute(attempt_in(tmp_path), flights_feed(0), 0, train)


def test_a_run_without_a_feed_has_everything_but_rows(tmp_path: Path) -> None:
    def simulate(run: RunContext, steps: int) -> str:
        for step in range(steps):
            run.log(energy=1.0 / (step + 1))
            run.progress(step + 1, steps)
        run.log(step=70, final=2)
        run.tag(engine="euler", fast=True)
        (run.out / "own.txt").write_text(str(run.params["steps"]))
        with pytest.raises(JobError, match="inputs"):
            _ = run.signature
        with pytest.raises(JobError, match="inputs"):
            next(run.batches("train"))
        return "returned"

    attempt = attempt_in(tmp_path, params={"steps": 3})
    assert execute(attempt, None, 0, simulate) == "returned"
    metrics = [(body["step"], body["values"]) for body in bodies(attempt, "metric")]
    assert metrics == [(1, {"energy": 1.0}), (2, {"energy": 0.5}), (3, {"energy": 1 / 3}), (70, {"final": 2.0})]
    assert bodies(attempt, "tag") == [{"values": {"engine": "euler", "fast": True}}]
    assert [body["done"] for body in bodies(attempt, "progress")] == [1, 3]
    assert (attempt.out / "own.txt").read_text() == "3"


def test_a_notice_outside_the_loop_ends_the_function_at_once(tmp_path: Path) -> None:
    reached = []

    def slow(run: RunContext) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("after the notice")

    with pytest.raises(Stopped):
        call(tmp_path, slow)
    assert reached == []


def test_a_model_that_is_as_good_as_saved_is_saved(tmp_path: Path) -> None:
    def late(run: RunContext) -> Output:
        net = build_net(run.signature)
        receive = net.state_dict
        net.state_dict = lambda: (os.kill(os.getpid(), signal.SIGTERM), receive())[1]
        return run.save(net)

    attempt, output = call(tmp_path, late)
    assert [body["digest"] for body in bodies(attempt, "output")] == [output.digest]


def test_an_estimator_is_saved_and_answers_and_what_is_none_is_refused(tmp_path: Path) -> None:
    def fit(run: RunContext) -> Output:
        batch = next(iter(run.batches("train", batch_size=10_000)))
        return run.save(LinearRegression().fit(batch["numeric"].numpy(), batch["label"].numpy()))

    attempt, output = call(tmp_path, fit)
    assert bodies(attempt, "output") == [output.to_json()]
    version = ModelVersion(tmp_path / output.location, digest=output.digest)
    feed = flights_feed()
    rows = version.encode_columns(feed.columns("test"), feed.dictionary)["numeric"].numpy()
    assert version.estimator().predict(rows).shape == (len(rows),)
    with pytest.raises(JobError, match=r"no model that can be saved \(got 'dict'\)"):
        call(tmp_path / "again", lambda run: run.save({"weights": 1}))
