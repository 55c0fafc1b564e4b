import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from bedplate.core.attempt import Attempt, start_ticks
from bedplate.train.ranks import End, torchrun_environment, verdict
from train.samples import attempt_in, flights_feed, journal_of, wait_until

LOST, STOPPED, USER = 70, 75, 1


def weights(attempt: Attempt) -> dict[str, torch.Tensor]:
    return load_file(attempt.out / "model" / "model.safetensors")


def failure_of(attempt: Attempt) -> dict[str, Any]:
    (entry,) = journal_of(attempt, "failure")
    return dict(entry.body)


def seen(attempt: Attempt, rank: int) -> list[int]:
    return [int(row) for row in (attempt.path / f"seen-{rank}").read_text().strip("[]").split(",")]


def resumed(state: Path, before: Attempt, world_size: int = 2) -> Attempt:
    known = dict(journal_of(before, "checkpoint")[-1].body)
    return attempt_in(state, token=before.token + 1, world_size=world_size, checkpoint=known)


@pytest.fixture(scope="module")
def whole(hosts: Any, tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    """Two ranks that nothing disturbs."""
    attempt = attempt_in(tmp_path_factory.mktemp("whole"), world_size=2)
    assert hosts.run(attempt) == 0
    return attempt


def test_ranks_share_the_rows_and_one_of_them_speaks(whole: Attempt) -> None:
    shares = [seen(whole, rank) for rank in (0, 1)]
    assert [len(share) for share in shares] == [640, 640]
    assert sorted(shares[0][:320] + shares[1][:320]) == list(range(640))
    metrics = [entry.body["values"] for entry in journal_of(whole, "metric")]
    assert len(metrics) == 20
    assert all(values["rank"] == 0.5 for values in metrics)  # the mean over ranks
    assert {entry.writer for entry in journal_of(whole) if entry.kind != "timing"} == {"host", "rank-0"}
    assert sorted((entry.body["rank"], entry.body["code"]) for entry in journal_of(whole, "process")) == [(0, 0), (1, 0)]
    assert len(journal_of(whole, "output")) == 1


def test_each_rank_has_its_log_and_torchruns_environment(whole: Attempt) -> None:
    for rank in (0, 1):
        assert whole.log(rank).read_text().splitlines()[0] == f"rank {rank} of 2, local {rank}"
    environment = torchrun_environment(whole, 1, 4711)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("127.0.0.1", "4711")
    assert (environment["LOCAL_WORLD_SIZE"], environment["TORCHELASTIC_RESTART_COUNT"]) == ("2", "0")


def test_two_ranks_that_are_disturbed_by_nothing_end_alike(hosts: Any, whole: Attempt, tmp_path: Path) -> None:
    again = attempt_in(tmp_path, world_size=2, checkpoint_every_s=0)
    assert hosts.run(again) == 0
    assert journal_of(again, "checkpoint")
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


def test_a_killed_rank_is_a_loss_and_the_next_attempt_ends_bit_for_bit_as_if_nothing_had_happened(
    hosts: Any, whole: Attempt, tmp_path: Path
) -> None:
    first = attempt_in(tmp_path, world_size=2, checkpoint_every_s=0, params={"at_step": 13, "act": "die"})
    assert hosts.run(first) == LOST
    failure = failure_of(first)
    assert (failure["failure"], failure["rank"], failure["message"]) == ("worker_lost", 1, "rank 1 was ended by SIGKILL")
    assert (1, -9) in [(entry.body["rank"], entry.body["code"]) for entry in journal_of(first, "process")]
    second = resumed(tmp_path, first)
    assert second.checkpoint is not None
    assert hosts.run(second) == 0
    assert 0 < len(seen(second, 0)) < 640
    assert seen(whole, 0)[second.checkpoint["step"] * 32 :] == seen(second, 0)
    assert weights(second).keys() == weights(whole).keys()
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(second).items())


def test_a_notice_to_the_host_stops_all_ranks_at_one_step_after_a_checkpoint(hosts: Any, whole: Attempt, tmp_path: Path) -> None:
    first = attempt_in(tmp_path, world_size=2, params={"at_step": 3, "act": "stop"})
    assert hosts.run(first) == STOPPED
    assert not journal_of(first, "failure")
    assert [entry.body["code"] for entry in journal_of(first, "process")] == [STOPPED, STOPPED]
    (checkpoint,) = journal_of(first, "checkpoint")
    assert 3 <= checkpoint.body["step"] <= 5
    assert [len(seen(first, rank)) for rank in (0, 1)] == [checkpoint.body["step"] * 32] * 2
    second = resumed(tmp_path, first)
    assert hosts.run(second) == 0
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(second).items())


def test_the_rows_that_are_left_are_dealt_at_another_world_size(hosts: Any, tmp_path: Path) -> None:
    first = attempt_in(tmp_path, world_size=2, params={"at_step": 3, "act": "stop"})
    assert hosts.run(first) == STOPPED
    alone = resumed(tmp_path, first, world_size=1)
    assert hosts.run(alone) == 0
    assert alone.checkpoint is not None
    feed = flights_feed()
    for epoch in (0, 1):
        list(feed.batches("train", batch_size=64, rank=0, world_size=1, epoch=epoch, seed=0))
    assert seen(alone, 0) == feed.seen[alone.checkpoint["step"] * 64 :]


def test_the_users_error_is_told_for_the_rank_that_made_it(hosts: Any, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2, params={"at_step": 3, "act": "fail"})
    assert hosts.run(attempt) == USER
    failure = failure_of(attempt)
    assert (failure["failure"], failure["rank"]) == ("user_error", 1)
    assert failure["message"].startswith("ValueError: the user's own mistake on rank 1 (samples.py:")
    assert "Traceback" in failure["traceback"]
    assert "the user's own mistake" in attempt.log(1).read_text()


def test_ranks_do_not_outlive_a_killed_host(hosts: Any, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2, params={"at_step": 2, "act": "hang"})
    host = hosts.start(attempt)
    wait_until((attempt.path / "hanging").exists)
    ranks = [int((attempt.path / f"pid-{rank}").read_text()) for rank in (0, 1)]
    assert all(start_ticks(pid) for pid in ranks)
    assert len(list(Path(f"/proc/{host}/task").iterdir())) == 1, "what a thread holds at a fork stays held in the rank"
    os.kill(host, signal.SIGKILL)
    wait_until(lambda: not any(start_ticks(pid) for pid in ranks), 10)


def test_an_attempt_whose_store_died_ends_as_a_loss(hosts: Any, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2, params={"at_step": 2, "act": "hang"})
    host = psutil.Process(hosts.start(attempt))
    wait_until((attempt.path / "hanging").exists)
    ranks = [int((attempt.path / f"pid-{rank}").read_text()) for rank in (0, 1)]
    [store] = [child for child in host.children() if child.pid not in ranks]
    store.kill()
    wait_until((attempt.path / "exit").exists)
    assert int((attempt.path / "exit").read_text()) == LOST


def end(rank: int, code: int, at_s: float = 10.0, failure: str = "", *, by_host: bool = False) -> End:
    said = {"failure": failure, "message": f"rank {rank}", "rank": rank, "traceback": "", "at_s": at_s} if failure else None
    return End(rank, code, at_s, said, by_host)


@pytest.mark.parametrize(
    ("ends", "stopping", "code", "told"),
    [
        ([end(0, 0), end(1, 0)], False, 0, None),
        ([end(0, 0), end(1, 0)], True, 0, None),
        ([end(0, 75), end(1, 75)], True, STOPPED, None),
        ([end(1, -15), end(0, 75)], True, STOPPED, None),
        ([end(1, 75), end(0, 1, failure="worker_lost")], True, STOPPED, None),
        ([end(1, -15), end(0, 1, failure="worker_lost")], False, LOST, 1),
        ([end(1, -9, 10.0), end(0, 1, 10.1, "user_error")], False, LOST, 1),
        ([end(0, 1, 10.0, "user_error"), end(1, -6, 10.1)], False, USER, 0),
        ([end(0, 1, 10.1, "user_error"), end(1, 1, 10.0, "user_error")], False, USER, 1),
        ([end(0, 1, 10.0, "worker_lost"), end(1, 1, 10.1, "user_error")], False, USER, 1),
        ([end(0, 1, 10.0, "user_error"), end(1, -9, 11.0, by_host=True)], False, USER, 0),
        ([end(0, 1, 10.0, "worker_lost"), end(1, -9, 11.0, by_host=True)], False, LOST, 0),
        ([end(0, 0), end(1, 3)], False, LOST, 1),
    ],
)
def test_the_first_cause_is_the_verdict(ends: list[End], stopping: bool, code: int, told: int | None) -> None:
    found, failure = verdict(ends, stopping)
    assert found == code
    assert (None if failure is None else failure["rank"]) == told
