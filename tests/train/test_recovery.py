"""Ranks that are killed for real: the others keep their processes, and what is trained is what nothing happened to."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bedplate.core.attempt import Attempt
from bedplate.train.recovery import assigned, whole_model_on_each_rank
from bedplate.train.seat import Assignment
from train.samples import attempt_in, journal_of, wait_until

LOST, STOPPED, USER = 70, 75, 1


def weights(attempt: Attempt) -> dict[str, torch.Tensor]:
    return load_file(attempt.out / "model" / "model.safetensors")


def disturbed(state: Path, world_size: int = 2, *, restarts_left: int = 3, spec: dict[str, Any] | None = None, **params: Any) -> Attempt:
    settings = {"checkpoint_every_s": 3600, **(spec or {})}
    return attempt_in(state, world_size=world_size, function="disturbed", restarts_left=restarts_left, params=params, **settings)


def equal(one: Attempt, other: Attempt) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def restarts(attempt: Attempt) -> list[dict[str, Any]]:
    return [dict(entry.body) for entry in journal_of(attempt, "restart")]


def failure_of(attempt: Attempt) -> dict[str, Any]:
    (entry,) = journal_of(attempt, "failure")
    return dict(entry.body)


def steps_logged(attempt: Attempt) -> list[int]:
    return sorted({entry.body["step"] for entry in journal_of(attempt, "metric")})


@pytest.fixture(scope="module")
def whole(hosts: Any, tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    """Two ranks that nothing disturbs, for 26 steps."""
    attempt = disturbed(tmp_path_factory.mktemp("whole"), epochs=2)
    assert hosts.run(attempt) == 0
    return attempt


@pytest.mark.parametrize("at", ["before:1", "between:9", "after:13", "between:26"])
def test_a_killed_rank_is_replaced_and_the_run_ends_bit_for_bit_as_if_nothing_had_happened(
    hosts: Any, whole: Attempt, tmp_path: Path, at: str
) -> None:
    attempt = disturbed(tmp_path, at=at, epochs=2)
    assert hosts.run(attempt) == 0
    (restart,) = restarts(attempt)
    assert (restart["rank"], restart["signal"], restart["failure"], restart["kept"]) == (1, "SIGKILL", "worker_lost", 1)
    assert restart["lost_steps"] == 0
    assert restart["exact"]
    assert equal(attempt, whole)
    assert steps_logged(attempt) == list(range(1, 27))
    assert not journal_of(attempt, "checkpoint")  # it went on from the memory of the other rank
    assert not journal_of(attempt, "failure")


def test_a_loop_that_calls_backward_and_step_itself_goes_on_as_well(hosts: Any, tmp_path: Path) -> None:
    expected, attempt = disturbed(tmp_path / "a", plain=True, epochs=2), disturbed(tmp_path / "b", at="before:11", plain=True, epochs=2)
    assert (hosts.run(expected), hosts.run(attempt)) == (0, 0)
    assert [restart["lost_steps"] for restart in restarts(attempt)] == [0]
    assert equal(attempt, expected)


@pytest.mark.parametrize("who", [0, 3])
def test_one_of_four_twice_also_the_one_that_writes(hosts: Any, tmp_path: Path, who: int) -> None:
    attempt = disturbed(tmp_path, 4, at="before:9 between:17", who=who, epochs=2)
    assert hosts.run(attempt) == 0
    assert [restart["kept"] for restart in restarts(attempt)] == [3, 3]
    assert len(journal_of(attempt, "process")) == 6
    assert steps_logged(attempt) == list(range(1, 27))
    assert len(journal_of(attempt, "output")) == 1


def test_more_losses_than_may_be_are_the_end(hosts: Any, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, restarts_left=1, at="before:5 before:9", epochs=2)
    assert hosts.run(attempt) == LOST
    assert len(restarts(attempt)) == 1
    assert failure_of(attempt)["message"] == "rank 1 was ended by SIGKILL"


def test_the_same_crash_twice_at_one_step_is_not_tried_again(hosts: Any, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, restarts_left=50, at="before:7", act="segfault", times=1000, epochs=2)
    assert hosts.run(attempt) == USER
    failure = failure_of(attempt)
    assert failure["failure"] == "crash_loop"
    assert "SIGSEGV at step 6 with no step finished in between" in failure["message"]
    assert len(restarts(attempt)) == 1
    assert "Segmentation fault" in attempt.log(1).read_text()  # with the stacks of all threads


def test_a_crash_that_does_not_come_again_is_survived(hosts: Any, whole: Attempt, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, at="before:7 before:15", act="segfault", epochs=2)
    assert hosts.run(attempt) == 0
    assert [restart["signal"] for restart in restarts(attempt)] == ["SIGSEGV", "SIGSEGV"]
    assert equal(attempt, whole)


def test_with_recovery_by_attempt_a_loss_ends_the_attempt(hosts: Any, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, at="before:5", epochs=2, spec={"recovery": "attempt"})
    assert hosts.run(attempt) == LOST
    failure = failure_of(attempt)
    assert (failure["failure"], failure["signal"], failure["step"]) == ("worker_lost", "SIGKILL", 4)


def test_a_mesh_whose_parts_are_lost_with_a_rank_begins_anew_from_the_checkpoint_in_the_same_attempt(
    hosts: Any, whole: Attempt, tmp_path: Path
) -> None:
    spec = {"checkpoint_every_s": 0, "mesh_of_test": True}
    attempt = disturbed(tmp_path, at="after:20", epochs=2, act="kill_after_checkpoint", spec={**spec, "recovery": "fork"})
    assert hosts.run(attempt) == 0
    (restart,) = restarts(attempt)
    assert restart["kept"] == 0
    assert 0 < restart["resumed_at"] <= 20
    assert restart["lost_steps"] == 20 - restart["resumed_at"]
    assert equal(attempt, whole)


def test_out_of_memory_ends_the_run_or_halves_the_micro_batch(hosts: Any, tmp_path: Path) -> None:
    stops = disturbed(tmp_path / "a", at="before:3", act="memory", epochs=1)
    assert hosts.run(stops) == USER
    assert failure_of(stops)["failure"] == "out_of_memory"
    halves = disturbed(tmp_path / "b", at="before:3", act="memory", epochs=1, spec={"on_out_of_memory": "halve_micro_batch"})
    assert hosts.run(halves) == 0
    assert [restart["failure"] for restart in restarts(halves)] == ["out_of_memory"]


def test_a_loss_that_is_no_number_ends_the_run_or_its_batch_is_skipped(hosts: Any, tmp_path: Path) -> None:
    stops = disturbed(tmp_path / "a", at="before:6", act="nan", who=0, times=100, epochs=1)
    assert hosts.run(stops) == USER
    failure = failure_of(stops)
    assert failure["failure"] == "numeric"
    assert "the loss of step 6" in failure["message"]
    skips = disturbed(tmp_path / "b", at="before:6", act="nan", who=0, times=100, epochs=1, spec={"on_numeric": "rollback"})
    assert hosts.run(skips) == 0
    (restart,) = restarts(skips)
    assert (restart["failure"], restart["resumed_at"]) == ("numeric", 0)
    assert 6 not in [entry.body["step"] for entry in journal_of(skips, "metric")]


@pytest.mark.parametrize("act", ["sleep", "stopped"])
def test_a_rank_that_hangs_is_named_with_its_stacks_and_replaced(hosts: Any, whole: Attempt, tmp_path: Path, act: str) -> None:
    attempt = disturbed(tmp_path, at="before:12", act=act, epochs=2, spec={"hang_after_s": 1.0})
    assert hosts.run(attempt) == 0
    (notice,) = journal_of(attempt, "notice")
    assert (notice.body["failure"], notice.body["missing"]) == ("hang", [1])
    assert "rank 1 did not arrive" in notice.body["message"]
    stacks = {Path(path).name: Path(path).read_text() for path in notice.body["stacks"]}
    assert "backward" in stacks["rank-0.txt"]
    if act == "sleep":
        assert "_stand_still" in stacks["rank-1.txt"]
        collectives = json.loads((attempt.path / "stacks" / "rank-0.collectives.json").read_text())["collectives"]
        assert collectives[-1]["profiling_name"] == "gloo:all_reduce"
    (restart,) = restarts(attempt)
    assert (restart["failure"], restart["rank"], restart["lost_steps"]) == ("hang", 1, 0)
    assert equal(attempt, whole)


def test_the_log_can_say_what_a_loss_means(hosts: Any, tmp_path: Path) -> None:
    spec = {"on_log": {"NVLink|CUDA error": "exclude_node"}}
    attempt = disturbed(tmp_path, at="before:5", act="nvlink", epochs=1, spec=spec)
    assert hosts.run(attempt) == USER
    assert failure_of(attempt)["failure"] == "node_lost"
    assert not restarts(attempt)


def test_the_world_shrinks_and_grows_in_place(hosts: Any, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, 4, at="before:5 before:30", act="fewer_then_more", who=0, epochs=4, spec={"workers": [1, 4]})
    assert hosts.run(attempt) == 0
    sizes = [(restart["failure"], restart["world_size"], restart["lost_steps"]) for restart in restarts(attempt)]
    assert sizes == [("resize", 2, 0), ("resize", 4, 0)]
    assert steps_logged(attempt) == list(range(1, 53))  # a step has as many samples as before


@pytest.mark.parametrize(("room", "sizes"), [(2, [2, 2]), (3, [2, 3])])
def test_where_no_further_process_can_be_started_an_elastic_run_goes_on_with_those_it_has(
    hosts: Any, tmp_path: Path, room: int, sizes: list[int]
) -> None:
    spec = {"workers": [1, 4], "room": room}
    attempt = disturbed(tmp_path, 4, at="before:5 before:30", act="fewer_then_more", who=0, epochs=4, spec=spec)
    assert hosts.run(attempt) == 0
    assert [restart["world_size"] for restart in restarts(attempt)] == sizes
    assert steps_logged(attempt) == list(range(1, 53))
    told = [entry.body["text"] for entry in journal_of(attempt, "message")]
    assert f"this machine could start {room - 2} of 2 processes: Resource temporarily unavailable" in told


def test_without_a_range_of_workers_a_process_that_cannot_be_started_ends_the_attempt(hosts: Any, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, 4, at="before:5", epochs=2, spec={"room": 3})
    assert hosts.run(attempt) == LOST
    assert failure_of(attempt)["failure"] == "worker_lost"


def test_a_number_of_workers_that_a_batch_cannot_be_dealt_out_to_changes_nothing(hosts: Any, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, 4, at="before:5", act="five", who=0, epochs=2, spec={"workers": [1, 5]})
    assert hosts.run(attempt) == 0
    assert not restarts(attempt)  # 48 samples are dealt out to four, not to five


def test_a_stop_in_the_middle_of_a_recovery_is_a_stop(hosts: Any, tmp_path: Path) -> None:
    attempt = disturbed(tmp_path, 2, at="before:5", act="kill_and_stop", epochs=4)
    assert hosts.run(attempt) in (STOPPED, LOST)
    wait_until(lambda: not any(_lives(attempt, rank) for rank in (0, 1)), 10)


def _lives(attempt: Attempt, rank: int) -> bool:
    try:
        os.kill(int((attempt.path / f"pid-{rank}").read_text()), signal.Signals(0) if False else 0)
    except ProcessLookupError:
        return False
    return True


def test_an_assignment_changes_what_a_rank_knows_of_its_attempt(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=4, mesh={"data": 4, "shard": 1}, accumulate=2)
    known = assigned(attempt, Assignment(1, 0, 2, checkpoint={"step": 3}, spec={"accumulate": 4}))
    assert (known.world_size, known.checkpoint, known.spec["accumulate"]) == (2, {"step": 3}, 4)
    assert known.spec["mesh"]["data"] == 2
    assert whole_model_on_each_rank(attempt)
    assert not whole_model_on_each_rank(attempt_in(tmp_path, token=2, mesh={"data": 2, "shard": 2}))
