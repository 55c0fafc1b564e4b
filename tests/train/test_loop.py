import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.attempt import Attempt
from bedplate.core.errors import CheckpointError, JobError
from bedplate.train.context import RunContext, execute
from bedplate.train.failures import NumericError
from bedplate.train.loop import Pass
from bedplate.train.notice import Stopped
from train.samples import ArrayFeed, attempt_in, build_net, flights_feed, journal_of, squared_error


def two_phases(run: RunContext, stop_at: int = 0, size: int = 160) -> Any:
    """Two stateful loops of 4 and 8 steps (by default), one optimizer each; SIGTERM comes at step `stop_at` of both together."""
    model = run.parallelize(lambda: build_net(run.signature))
    done = 0
    for epochs, optimizer in ((1, torch.optim.SGD(model.parameters(), 1e-4)), (2, torch.optim.AdamW(model.parameters(), 1e-3))):
        for batch in run.batches("train", epochs=epochs, state=[model, optimizer], batch_size=size):
            run.log(loss=run.backward(squared_error, batch))
            run.update(optimizer)
            done += 1
            if done == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
    return [parameter.detach().clone() for parameter in model.parameters()]


def attempt_after(state: Path, before: Attempt, token: int = 2, **params: Any) -> Attempt:
    known = dict(journal_of(before, "checkpoint")[-1].body)
    return attempt_in(state, token=token, checkpoint=known, params=params)


def stopped(state: Path, feed: ArrayFeed, at: int) -> Attempt:
    attempt = attempt_in(state, params={"stop_at": at})
    with pytest.raises(Stopped):
        execute(attempt, feed, 0, two_phases)
    return attempt


@pytest.mark.parametrize("at", [1, 3, 4, 5, 9])
def test_a_stopped_run_goes_on_to_the_same_weights_and_rows_in_whichever_loop(tmp_path: Path, at: int) -> None:
    whole, before, after = flights_feed(), flights_feed(), flights_feed()
    expected = execute(attempt_in(tmp_path / "whole"), whole, 0, two_phases)
    first = stopped(tmp_path, before, at)
    (checkpoint,) = journal_of(first, "checkpoint")
    second = attempt_after(tmp_path, first)
    weights = execute(second, after, 0, two_phases)
    assert all(torch.equal(one, other) for one, other in zip(weights, expected, strict=True))
    steps = checkpoint.body["step"]
    assert at <= steps <= at + 4  # ranks meet at most four steps after the first
    assert before.seen[: steps * 160] + after.seen == whole.seen
    logged = [entry.body["step"] for attempt in (first, second) for entry in journal_of(attempt, "metric")]
    assert logged == list(range(1, 13))


def test_a_stop_is_committed_before_it_is_obeyed(tmp_path: Path) -> None:
    attempt = stopped(tmp_path, flights_feed(), 2)
    (checkpoint,) = journal_of(attempt, "checkpoint")
    assert (tmp_path / checkpoint.body["location"] / "manifest.json").is_file()
    assert checkpoint.body["position"] == checkpoint.body["step"] * 160


def test_checkpoints_come_with_time(tmp_path: Path) -> None:
    often, never = attempt_in(tmp_path / "a", checkpoint_every_s=0), attempt_in(tmp_path / "b", checkpoint_every_s=3600)
    weights = [execute(attempt, flights_feed(), 0, two_phases) for attempt in (often, never)]
    assert journal_of(often, "checkpoint")
    assert not journal_of(never, "checkpoint")
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))  # they leave no trace in what is trained


def test_a_checkpoint_of_another_batch_size_is_refused(tmp_path: Path) -> None:
    first = stopped(tmp_path, flights_feed(), 2)
    with pytest.raises(CheckpointError, match="another loop"):
        execute(attempt_after(tmp_path, first, size=80), flights_feed(), 0, two_phases)


def test_a_damaged_checkpoint_leads_back_to_the_beginning(tmp_path: Path) -> None:
    expected = execute(attempt_in(tmp_path / "whole"), flights_feed(), 0, two_phases)
    first = stopped(tmp_path, flights_feed(), 2)
    second = attempt_after(tmp_path, first)
    assert second.checkpoint is not None
    (tmp_path / second.checkpoint["location"] / "part-0.json").write_text("{}")
    weights = execute(second, flights_feed(), 0, two_phases)
    assert all(torch.equal(one, other) for one, other in zip(weights, expected, strict=True))
    (message,) = journal_of(second, "message")
    assert "part-0.json" in message.body["text"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(4, 40), size=st.integers(1, 9), epochs=st.integers(1, 3), stop_at=st.integers(1, 30))
def test_every_sample_is_dealt_once_an_epoch_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, rows: int, size: int, epochs: int, stop_at: int
) -> None:
    def count(run: RunContext, at: int = 0) -> None:
        model = torch.nn.Linear(1, 1)
        for step, _ in enumerate(run.batches("train", epochs=epochs, state=[model], batch_size=min(size, rows)), 1):
            if step == at:
                os.kill(os.getpid(), signal.SIGTERM)

    state, whole, cut = tmp_path_factory.mktemp("cut"), flights_feed(rows), flights_feed(rows)
    execute(attempt_in(state / "whole"), whole, 0, count)
    first = attempt_in(state, params={"at": stop_at})
    try:
        execute(first, cut, 0, count)
    except Stopped:
        after = flights_feed(rows)
        dealt = journal_of(first, "checkpoint")[-1].body["step"] * min(size, rows)
        execute(attempt_after(state, first), after, 0, count)
        assert cut.seen[:dealt] + after.seen == whole.seen
    else:
        assert cut.seen == whole.seen
    used = rows // min(size, rows) * min(size, rows)
    assert all(len(set(whole.seen[start : start + used])) == used for start in range(0, epochs * used, used))


def one_loop(
    run: RunContext, size: int = 160, epochs: int = 1, bad_at: int = 0, value: float = math.nan, split: str = "train"
) -> list[int]:
    """One stateful loop that logs a loss of 1, and `value` at step `bad_at`; the rows of each batch."""
    layer, rows = torch.nn.Linear(1, 1), []
    for step, batch in enumerate(run.batches(split, epochs=epochs, state=[layer], batch_size=size), 1):
        rows.append(len(batch["label"]))
        run.log(loss=value if step == bad_at else 1.0)
    return rows


@pytest.mark.parametrize(("size", "epochs", "batches"), [(640, 1, 1), (320, 2, 4), (300, 1, 2), (300, 2, 4), (640, 3, 3), (100, 1, 6)])
def test_every_epoch_has_its_whole_batches_and_leaves_the_rest(tmp_path: Path, size: int, epochs: int, batches: int) -> None:
    feed = flights_feed()
    assert execute(attempt_in(tmp_path, params={"size": size, "epochs": epochs}), feed, 0, one_loop) == [size] * batches
    each_epoch = 640 // size * size
    for epoch in range(epochs):
        seen = feed.seen[epoch * each_epoch : (epoch + 1) * each_epoch]
        assert len(set(seen)) == each_epoch, "no row comes twice in an epoch"


@pytest.mark.parametrize(("size", "said"), [(0, "dealt out"), (-64, "dealt out"), (641, "use at most 640")])
def test_a_batch_that_cannot_be_made_is_refused(tmp_path: Path, size: int, said: str) -> None:
    with pytest.raises(JobError, match=said):
        execute(attempt_in(tmp_path, params={"size": size}), flights_feed(), 0, one_loop)


def test_the_split_that_is_too_small_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"larger than the 'test' split.*use at most 60"):
        execute(attempt_in(tmp_path, params={"size": 61, "split": "test"}), flights_feed(), 0, one_loop)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("bad_at", "where"), [(1, (0, 0, 160)), (3, (0, 0, 480)), (6, (0, 1, 320))])
def test_a_loss_that_is_no_number_ends_the_loop_and_tells_the_batch(
    tmp_path: Path, bad_at: int, where: tuple[int, int, int], value: float
) -> None:
    attempt = attempt_in(tmp_path, params={"bad_at": bad_at, "value": value, "epochs": 3})
    with pytest.raises(NumericError, match=f"the loss of step {bad_at} is not finite") as raised:
        execute(attempt, flights_feed(), 0, one_loop)
    assert raised.value.where == where
    assert not journal_of(attempt, "checkpoint"), "a state that came of it is not kept"


def test_the_last_step_of_all_is_looked_at_too(tmp_path: Path) -> None:
    with pytest.raises(NumericError, match="the loss of step 4 "):
        execute(attempt_in(tmp_path, params={"bad_at": 4}), flights_feed(), 0, one_loop)


def test_what_a_position_depends_on_is_told_and_how_often_is_not() -> None:
    one, longer = Pass("train", 2, 64, 7), Pass("train", 9, 64, 7)
    assert one.facts() == longer.facts() == {"split": "train", "batch_size": 64, "seed": 7}
    assert Pass("train", 2, 64, 8).facts() != one.facts()


def test_progress_counts_the_samples_of_all_epochs(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, params={"size": 300, "epochs": 2})
    execute(attempt, flights_feed(), 0, one_loop)
    told = [entry.body for entry in journal_of(attempt, "progress")]
    assert (told[-1]["done"], told[-1]["total"]) == (1200, 1200)
    assert [each["done"] for each in told] == sorted(each["done"] for each in told)


@pytest.mark.parametrize("kind", ["progress", "metric"])
def test_a_run_that_stops_has_told_of_what_it_did(tmp_path: Path, kind: str) -> None:
    attempt = stopped(tmp_path, flights_feed(), 5)
    (checkpoint,) = journal_of(attempt, "checkpoint")
    if kind == "metric":
        assert [entry.body["step"] for entry in journal_of(attempt, kind)] == list(range(1, checkpoint.body["step"] + 1))
    else:
        assert journal_of(attempt, kind)
