"""The engine itself: two replicas that meet at a real lighthouse, average, and hand state over without pickling it."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch

pytest.importorskip("torchft", reason="torchft is not installed")

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.exchange import Address, ask
from bedplate.train.engines.torchft import TorchftReplicas, _Transport
from bedplate.train.replicas import MEETING_FILE, Quorum
from train.samples import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")  # torchft calls it

HOLD = "import sys, pathlib; from bedplate.train.engines.torchft import hold_lighthouse; hold_lighthouse(pathlib.Path(sys.argv[1]))"


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / MEETING_FILE).exists)
        yield tmp_path
    finally:
        process.kill()
        process.wait()


def together(*calls: Callable[[], Any]) -> list[Any]:
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        results[number] = calls[number]()

    threads = [Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


class Kept:
    """A state of tensors and plain values."""

    def __init__(self, value: float) -> None:
        self.state: list[Any] = [{"w": torch.full((3, 2), value), "steps": 7, "empty": torch.empty(0)}, {"bf": torch.ones(2).bfloat16()}]

    def give(self) -> list[Any]:
        return self.state

    def take(self, states: list[Any]) -> None:
        self.state = states


def test_two_replicas_average_and_one_that_is_behind_takes_the_state_of_the_other(meeting: Path) -> None:
    assert stat.S_IMODE((meeting / MEETING_FILE).stat().st_mode) == 0o600  # the token is for the user's own processes
    ahead, behind = (TorchftReplicas(meeting, rank, torch.device("cpu")) for rank in (0, 1))
    kept, late = Kept(1.0), Kept(0.0)
    ahead.start(5, kept.give, kept.take)
    behind.start(0, late.give, late.take)
    found = together(ahead.begin, behind.begin)
    assert [(each.step, each.count) for each in found] == [(5, 2), (5, 2)]
    assert sorted(each.first for each in found) == [False, True]
    assert torch.equal(late.state[0]["w"], kept.state[0]["w"])
    assert late.state[0]["steps"] == 7
    assert late.state[1]["bf"].dtype == torch.bfloat16
    one, other = (
        [torch.tensor([1.0, 2.0]), torch.ones(2, 2, dtype=torch.float64)],
        [torch.tensor([3.0, 6.0]), torch.zeros(2, 2, dtype=torch.float64)],
    )
    together(lambda: ahead.reduce(one), lambda: behind.reduce(other))
    assert one[0].tolist() == other[0].tolist() == [2.0, 4.0]
    assert one[1].tolist() == other[1].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert together(ahead.commit, behind.commit) == [True, True]
    behind.close()
    step = alone(ahead)
    assert step.step == 6
    assert step.count == 1
    ahead.close()


def alone(replica: TorchftReplicas) -> Quorum:
    """The first step that counts after the other has left; one that was begun with it does not."""
    while True:
        quorum = replica.begin()
        replica.reduce([torch.ones(1)])
        if replica.commit():
            return quorum


def test_state_is_given_to_those_who_know_the_token_only(meeting: Path) -> None:
    replica, kept = TorchftReplicas(meeting, 0, torch.device("cpu")), Kept(1.0)
    replica.start(0, kept.give, kept.take)
    transport = replica._manager._checkpoint_transport
    address = Address(**json.loads(transport.metadata()))
    transport.send_checkpoint([1], 4, {"user": kept.give()}, None)
    with pytest.raises(OSError):
        ask(address, b"another token", {"do": "tree", "step": 4}, given_up=Event(), limit_s=5)
    token = bytes.fromhex(json.loads((meeting / MEETING_FILE).read_text())["token"])
    tree = json.loads(ask(address, token, {"do": "tree", "step": 4}, given_up=Event()))
    assert tree["shapes"]["state.user.0.w"] == ["float32", [3, 2]]
    replica.close()


PATIENCE = timedelta(seconds=20)


@pytest.fixture
def transports() -> Iterator[tuple[_Transport, _Transport]]:
    """One that gives and one that takes, of one attempt; no lighthouse is needed to hand state over."""
    token = hashlib.sha256(b"attempt").digest()
    pair = _Transport(token), _Transport(token)
    yield pair
    for each in pair:
        each.shutdown()


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]
)
def test_tensors_of_every_type_and_shape_arrive_bit_for_bit(transports: tuple[_Transport, _Transport], dtype: torch.dtype) -> None:
    giver, taker = transports
    given = {"grid": torch.arange(6).reshape(2, 3).to(dtype), "one": torch.ones((), dtype=dtype), "none": torch.empty(0, 2, dtype=dtype)}
    given["turned"] = given["grid"].t()
    giver.send_checkpoint([1], 3, given, PATIENCE)
    found = taker.recv_checkpoint(0, giver.metadata(), 3, PATIENCE)
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert (found[name].dtype, found[name].shape) == (dtype, tensor.shape)
        assert torch.equal(found[name], tensor)


def test_plain_values_arrive_with_their_types(transports: tuple[_Transport, _Transport]) -> None:
    giver, taker = transports
    state = {"user": [{"betas": (0.9, 0.95), 7: None, "on": True}, []], "torchft": {"step": 3, "batches_committed": 12}}
    giver.send_checkpoint([1], 3, state, PATIENCE)
    assert taker.recv_checkpoint(0, giver.metadata(), 3, PATIENCE) == state


def test_what_is_given_is_the_state_of_that_step_though_training_goes_on(transports: tuple[_Transport, _Transport]) -> None:
    giver, taker = transports
    weight = torch.ones(1000)
    giver.send_checkpoint([1], 3, {"w": weight}, PATIENCE)
    weight.zero_()
    assert taker.recv_checkpoint(0, giver.metadata(), 3, PATIENCE)["w"].sum() == 1000


def test_one_that_asks_before_the_state_is_there_waits_for_it(transports: tuple[_Transport, _Transport]) -> None:
    giver, taker = transports
    giver.send_checkpoint([1], 2, {"w": torch.zeros(1)}, PATIENCE)
    found: list[Any] = []
    asking = Thread(target=lambda: found.append(taker.recv_checkpoint(0, giver.metadata(), 3, PATIENCE)))
    asking.start()
    giver.send_checkpoint([1], 3, {"w": torch.full((1,), 3.0)}, PATIENCE)
    asking.join(30)
    assert found[0]["w"].tolist() == [3.0]


def test_the_copy_is_kept_until_all_that_are_behind_have_it(transports: tuple[_Transport, _Transport]) -> None:
    giver, taker = transports
    giver.send_checkpoint([1, 2], 3, {"w": torch.ones(2)}, PATIENCE)
    for left in (True, False):
        assert taker.recv_checkpoint(0, giver.metadata(), 3, PATIENCE)["w"].tolist() == [1.0, 1.0]
        assert (giver._state is not None) is left


def test_a_tensor_that_is_not_in_the_state_is_said_not_to_be(transports: tuple[_Transport, _Transport]) -> None:
    giver, _ = transports
    giver.send_checkpoint([1], 3, {"w": torch.ones(2)}, PATIENCE)
    address = Address(**json.loads(giver.metadata()))
    token = hashlib.sha256(b"attempt").digest()
    with pytest.raises(CheckpointError, match=r"state\.v"):
        ask(address, token, {"do": "tensor", "step": 3, "name": "state.v"}, given_up=Event())
    assert bytes(ask(address, token, {"do": "tensor", "step": 3, "name": "state.w"}, given_up=Event())) == bytes.fromhex("0000803f" * 2)


def test_state_that_is_no_tree_of_tensors_is_refused_and_never_pickled(transports: tuple[_Transport, _Transport]) -> None:
    with pytest.raises(CheckpointError, match=r"state\.user\.hook: function"):
        transports[0].send_checkpoint([1], 3, {"user": {"hook": alone}}, PATIENCE)


def test_one_that_left_gives_nothing_any_more(transports: tuple[_Transport, _Transport]) -> None:
    giver, taker = transports
    giver.send_checkpoint([1], 3, {"w": torch.ones(2)}, PATIENCE)
    where = giver.metadata()
    giver.shutdown()
    with pytest.raises(OSError):
        taker.recv_checkpoint(0, where, 3, PATIENCE)


def test_where_no_lighthouse_is_held_there_is_no_replica(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=MEETING_FILE):
        TorchftReplicas(tmp_path, 0, torch.device("cpu"))


def test_one_that_never_started_may_leave(tmp_path: Path) -> None:
    (tmp_path / MEETING_FILE).write_text(json.dumps({"lighthouse": "http://127.0.0.1:9", "token": "00"}))
    replica = TorchftReplicas(tmp_path, 0, torch.device("cpu"))
    replica.close()
    replica.close()
