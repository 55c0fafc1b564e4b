"""Replicas that come and go between steps: one is killed for real, the other goes on, and the first comes back to where it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from bedplate.core.attempt import Attempt, start_ticks
from bedplate.core.errors import JobError, Unavailable
from bedplate.core.journal import JournalWriter
from bedplate.train.context import RunContext
from bedplate.train.notice import StopNotice
from bedplate.train.replicas import MEETING_FILE, Lighthouse, Quorum, ReplicaGroup, replica_group
from bedplate.train.tree import seed_everything
from train.samples import attempt_in, build_net, flights_feed, journal_of, squared_error

pytest.importorskip("torchft", reason="torchft is not installed")


def replicated(
    state: Path, world_size: int = 2, token: int = 1, checkpoint: Any = None, spec: dict[str, Any] | None = None, **params: Any
) -> Attempt:
    settings = {"recovery": "replicas", "checkpoint_every_s": 3600, **(spec or {})}
    return attempt_in(
        state, token=token, world_size=world_size, function="slow", checkpoint=checkpoint, restarts_left=3, params=params, **settings
    )


def lives(attempt: Attempt, rank: int) -> list[list[int]]:
    """The steps that each process of a rank has done, in the order of the processes' births."""
    files = sorted(attempt.path.glob(f"steps-{rank}-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return [[int(line.split()[0]) for line in path.read_text().splitlines()] for path in files]


def weights(attempt: Attempt, rank: int) -> dict[str, torch.Tensor]:
    return torch.load(attempt.path / f"weights-{rank}.pt", weights_only=True)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def log(attempt: Attempt) -> str:
    return "".join(path.read_text() for path in sorted((attempt.path / "logs").iterdir()))[-6000:]


def test_undisturbed_replicas_do_every_step_together_and_end_with_one_model(hosts: Any, tmp_path: Path) -> None:
    attempt = replicated(tmp_path, epochs=2, pause_s=0)
    assert hosts.run(attempt) == 0, log(attempt)
    assert lives(attempt, 0) == lives(attempt, 1) == [list(range(1, 27))]
    assert same(weights(attempt, 0), weights(attempt, 1))
    assert same(weights(attempt, 0), load_file(attempt.out / "model" / "model.safetensors"))
    assert not journal_of(attempt, "restart")
    assert sorted({entry.body["step"] for entry in journal_of(attempt, "metric")}) == list(range(1, 27))


@pytest.mark.parametrize("who", [0, 1])
def test_one_is_killed_the_other_goes_on_stepping_and_it_comes_back(hosts: Any, tmp_path: Path, who: int) -> None:
    attempt = replicated(tmp_path, epochs=16, at=10, who=who, back_s=2)
    assert hosts.run(attempt) == 0, log(attempt)
    (restart,) = [entry.body for entry in journal_of(attempt, "restart")]
    assert (restart["rank"], restart["signal"], restart["kept"], restart["lost_steps"]) == (who, "SIGKILL", 1, 0)
    stayed, (before, after) = lives(attempt, 1 - who), lives(attempt, who)
    assert len(stayed) == 1  # its process was not touched
    assert stayed[0][-1] == after[-1] == 16 * 13
    assert sorted(set(stayed[0])) == list(range(1, 16 * 13 + 1))  # every step was done
    assert before == list(range(1, 10))
    assert after[0] > 10  # the other did steps alone meanwhile
    assert after == list(range(after[0], 16 * 13 + 1))
    assert same(weights(attempt, 0), weights(attempt, 1))
    told = [entry.body["text"] for entry in journal_of(attempt, "message")]
    assert any(text.startswith("1 of 2 replicas from step") for text in told)
    assert any(text.startswith("2 of 2 replicas from step") for text in told[1:])


def test_a_stopped_run_goes_on_from_its_checkpoint(hosts: Any, tmp_path: Path) -> None:
    first = replicated(tmp_path, epochs=4, at=8, who=0, act="stop")
    assert hosts.run(first) == 75, log(first)
    (known,) = [dict(entry.body) for entry in journal_of(first, "checkpoint")]
    second = replicated(tmp_path, token=2, checkpoint=known, epochs=4, pause_s=0)
    assert hosts.run(second) == 0, log(second)
    assert lives(second, 0) == lives(second, 1) == [list(range(known["step"] + 1, 4 * 13 + 1))]
    assert same(weights(second, 0), weights(second, 1))


def test_when_all_are_killed_they_go_on_from_the_newest_checkpoint(hosts: Any, tmp_path: Path) -> None:
    attempt = replicated(tmp_path, epochs=4, at=20, who=0, act="kill_all", spec={"checkpoint_every_s": 0})
    assert hosts.run(attempt) == 0, log(attempt)
    assert sorted(entry.body["rank"] for entry in journal_of(attempt, "restart")) == [0, 1]
    steps = {entry.body["step"] for entry in journal_of(attempt, "checkpoint")}
    assert {after[0] - 1 for _, after in (lives(attempt, 0), lives(attempt, 1))} <= steps
    assert same(weights(attempt, 0), weights(attempt, 1))


def test_a_loop_that_steps_its_optimizer_itself_is_told_what_is_missing(hosts: Any, tmp_path: Path) -> None:
    attempt = replicated(tmp_path, epochs=1, plain=True)
    assert hosts.run(attempt) == 1
    (failure,) = [entry.body for entry in journal_of(attempt, "failure")]
    assert failure["failure"] == "user_error"
    assert "each step ends with run.update(optimizer)" in failure["message"]


def test_a_mesh_that_shares_the_model_is_refused(tmp_path: Path) -> None:
    attempt = replicated(tmp_path, spec={"mesh": {"shard": 2}})
    with pytest.raises(JobError, match="replicas hold the whole model each"):
        replica_group(attempt, 0, torch.device("cpu"))


class Scripted:
    """An engine without others: a quorum is what the script says next, and a step counts as it says."""

    def __init__(self, *script: tuple[Quorum, bool]) -> None:
        self.script = list(script)
        self.reduced: list[int] = []
        self.closed = False

    def start(self, step: int, give: Any, take: Any) -> None:
        self.give, self.take = give, take

    def begin(self) -> Quorum:
        return self.script[0][0]

    def reduce(self, gradients: Any) -> None:
        self.reduced.append(len(gradients))

    def commit(self) -> bool:
        return self.script.pop(0)[1]

    def close(self) -> None:
        self.closed = True


def scripted(tmp_path: Path, *script: tuple[int, bool]) -> tuple[Attempt, list[tuple[int, int]], Scripted]:
    """Train one rank by a script of (steps that are finished, whether the next counts); what it saw: steps, and those of the schedule."""
    attempt = attempt_in(tmp_path, params={})
    engine = Scripted(*[(Quorum(step, 1, True), counts) for step, counts in script])
    seen: list[tuple[int, int]] = []
    group = ReplicaGroup(attempt, 0, engine)
    with StopNotice() as notice:
        journal = JournalWriter(attempt.path, "rank-0")
        run = RunContext(attempt, flights_feed(), journal, group, notice)
        seed_everything(run.seed)
        model = run.parallelize(lambda: build_net(run.signature))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=40)
        for batch in run.batches("train", state=[model, optimizer, schedule], batch_size=160):
            loss = run.backward(squared_error, batch)
            run.update(optimizer)
            schedule.step()
            run.log(loss=loss)
            seen.append((run._keeper.steps, schedule.last_epoch))
        run.finish()
    journal.close()
    return attempt, seen, engine


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_step_that_did_not_count_is_done_again_with_the_same_batch_and_schedule(tmp_path: Path) -> None:
    attempt, seen, engine = scripted(tmp_path, (0, True), (1, False), (1, False), (1, True), (2, True), (3, True))
    assert seen == [(1, 1), (2, 2), (2, 2), (2, 2), (3, 3), (4, 4)]
    losses = {entry.body["step"]: entry.body["values"]["loss"] for entry in journal_of(attempt, "metric")}
    whole, _, _ = scripted(tmp_path / "whole", (0, True), (1, True), (2, True), (3, True))
    assert losses == {entry.body["step"]: entry.body["values"]["loss"] for entry in journal_of(whole, "metric")}
    assert engine.closed
    assert set(engine.reduced) == {5}  # all parameters of the network


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_one_that_is_ahead_of_its_data_jumps_there(tmp_path: Path) -> None:
    _, seen, _ = scripted(tmp_path, (0, True), (3, True))
    assert [step for step, _ in seen] == [1, 4]


def test_a_quorum_that_is_past_the_end_ends_the_loop(tmp_path: Path) -> None:
    _, seen, _ = scripted(tmp_path, (4, True))
    assert seen == []


def test_a_group_of_one_says_and_hears_itself_and_is_over_when_one_has_finished(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    alone = ReplicaGroup(attempt, 0, Scripted())
    assert alone.agree([1, 2.5]) == [1, 2.5]
    assert alone.gather(b"mine") == [b"mine"]
    assert alone.broadcast(b"said") == b"said"
    assert not alone.over
    alone.part()
    alone.part()  # a second one that finishes
    assert alone.over


def test_a_batch_that_cannot_be_dealt_out_is_refused(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    with StopNotice() as notice:
        run = RunContext(attempt, flights_feed(), JournalWriter(attempt.path, "rank-0"), ReplicaGroup(attempt, 0, Scripted()), notice)
        layer = torch.nn.Linear(1, 1)
        with pytest.raises(JobError, match="at most 640"):
            next(run.batches("train", state=[layer], batch_size=641))
        with pytest.raises(JobError, match="dealt out"):
            next(run.batches("train", state=[layer], batch_size=0))


def test_without_the_extra_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"needs the package 'torchft'.*pip install 'bedplate\[torchft\]'"):
        Lighthouse(attempt_in(tmp_path))


def test_a_lighthouse_is_a_process_that_ends_when_it_is_told_to(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    made = Lighthouse(attempt)
    assert json.loads((attempt.path / MEETING_FILE).read_text())["lighthouse"].startswith("http://127.0.0.1:")
    made.close()
    assert start_ticks(made._pid) is None


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[TCPStore]:
    """The store of a host, where its ranks look for it."""
    made = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(made.port))
    yield made


def test_what_rank_0_said_is_heard_in_order_also_by_one_that_comes_later(store: TCPStore, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2)
    first = ReplicaGroup(attempt, 0, Scripted())
    assert [first.broadcast(each) for each in (b"fitted", None, b"\0model")] == [b"fitted", b"", b"\0model"]
    for _ in range(2):  # a rank, and the one that takes its place
        later = ReplicaGroup(attempt, 1, Scripted())
        assert [later.broadcast(b"not looked at") for _ in range(3)] == [b"fitted", b"", b"\0model"]


def test_words_of_an_earlier_attempt_are_not_heard(store: TCPStore, tmp_path: Path) -> None:
    ReplicaGroup(attempt_in(tmp_path, token=1, world_size=2), 0, Scripted()).broadcast(b"old")
    second = attempt_in(tmp_path, token=2, world_size=2)
    ReplicaGroup(second, 0, Scripted()).broadcast(b"new")
    assert ReplicaGroup(second, 1, Scripted()).broadcast(None) == b"new"


def test_none_begins_before_all_are_here_and_one_that_comes_back_at_once(store: TCPStore, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=3)
    passed: list[int] = []

    def come(rank: int) -> None:
        ReplicaGroup(attempt, rank, Scripted()).assemble()
        passed.append(rank)

    early = [threading.Thread(target=come, args=(rank,)) for rank in (0, 1)]
    for each in early:
        each.start()
        each.join(0.1)
    assert passed == []
    come(2)
    for each in early:
        each.join(30)
    assert sorted(passed) == [0, 1, 2]
    come(1)
    assert sorted(passed) == [0, 1, 1, 2]


def test_each_replica_agrees_with_itself_and_only_the_first_gathers(store: TCPStore, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2)
    groups = [ReplicaGroup(attempt, rank, Scripted()) for rank in (0, 1)]
    assert [each.agree([each.rank, 7]) for each in groups] == [[0, 7], [1, 7]]
    assert [each.gather(b"mine") for each in groups] == [[b"mine"], []]
    tensor = torch.ones(2)
    groups[1].share([tensor], 0)
    assert tensor.tolist() == [1.0, 1.0]
    groups[0].part()
    assert groups[1].over
    assert not groups[1].replicas.closed


@pytest.mark.parametrize("mesh", [{"tensor": 2}, {"pipeline": 4}, {"context": 2}, {"data": 2, "shard": 2}])
def test_every_way_to_share_a_model_is_refused_with_what_to_do(tmp_path: Path, mesh: dict[str, int]) -> None:
    with pytest.raises(JobError, match="leave the mesh out, or take `recovery: in_place`"):
        replica_group(replicated(tmp_path, spec={"mesh": mesh}), 0, torch.device("cpu"))


@pytest.mark.parametrize("updates", [0, 2])
def test_a_step_has_exactly_one_update(tmp_path: Path, updates: int) -> None:
    attempt = attempt_in(tmp_path)
    group = ReplicaGroup(attempt, 0, Scripted((Quorum(0, 1, True), True), (Quorum(1, 1, True), True), (Quorum(2, 1, True), True)))
    with StopNotice() as notice:
        journal = JournalWriter(attempt.path, "rank-0")
        run = RunContext(attempt, flights_feed(), journal, group, notice)
        model = run.parallelize(lambda: build_net(run.signature))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        with pytest.raises(JobError, match={0: r"a step without `run\.update`", 2: "two updates in one step"}[updates]):
            for batch in run.batches("train", state=[model, optimizer], batch_size=160):
                run.backward(squared_error, batch)
                for _ in range(updates):
                    run.update(optimizer)
        journal.close()


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_how_many_replicas_there_are_is_told_when_it_changes(tmp_path: Path) -> None:
    attempt, _, _ = scripted(tmp_path, (0, True), (1, True), (2, True), (3, True))
    assert [entry.body["text"] for entry in journal_of(attempt, "message")] == ["1 of 1 replicas from step 1 on"]
