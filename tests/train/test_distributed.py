import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from bedplate.train.distributed import Group, leave, open_sockets
from train.samples import attempt_in, journal_of


def test_a_group_of_one_needs_nobody() -> None:
    group = Group(0, 1)
    assert group.agree([1, 2.5]) == [1, 2.5]
    assert group.gather(b"x") == [b"x"]
    assert group.broadcast(b"x") == b"x"
    group.part()


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_agree_gather_and_broadcast(hosts: Any, tmp_path: Path, world_size: int) -> None:
    attempt = attempt_in(tmp_path, world_size=world_size, function="talk")
    assert hosts.run(attempt) == 0
    learned = [json.loads((attempt.path / f"learned-{rank}.json").read_text()) for rank in range(world_size)]
    for rank, each in enumerate(learned):
        assert each["agreed"] == [world_size - 1, 0, 0.5]
        assert each["broadcast"] == "from 0"
        assert each["nothing"] == ""
        assert each["gathered"] == (["x" * 1000 * peer for peer in range(world_size)] if rank == 0 else [])
    assert learned[0]["empty"] == [""] * world_size
    # a metric is the mean over the ranks that logged it; none waits for one that did not
    (entry,) = journal_of(attempt, "metric")
    assert entry.body["values"] == {"only_here": 1.0, "everywhere": sum(range(world_size)) / world_size}


@pytest.mark.parametrize(("given", "expected"), [(b"", b""), (None, b""), (b"\0\xff", b"\0\xff")])
def test_what_one_rank_broadcasts_to_itself_is_what_it_gave(given: bytes | None, expected: bytes) -> None:
    assert Group(0, 1).broadcast(given) == expected


def test_a_group_of_one_shares_tensors_with_nobody() -> None:
    tensor = torch.ones(3)
    Group(0, 1).share([tensor], 0)
    assert tensor.tolist() == [1.0, 1.0, 1.0]


def test_without_a_network_an_attempt_of_one_has_a_group(tmp_path: Path) -> None:
    group = Group.join(attempt_in(tmp_path), 0, torch.device("cpu"))
    assert (group.rank, group.world_size, group.sockets) == (0, 1, {})


def test_ranks_that_hold_parts_of_one_model_have_one_share_of_a_batch() -> None:
    group = Group(3, 4)
    assert (group.batch_rank, group.batch_ranks) == (3, 4)
    group.deal(1, 2)
    assert (group.batch_rank, group.batch_ranks) == (1, 2)
    assert (group.rank, group.world_size) == (3, 4)


def test_the_sockets_of_a_process_are_seen_and_only_those() -> None:
    before = open_sockets()
    one, other = socket.socketpair()
    reading, writing = os.pipe()
    found = {number: name for number, name in open_sockets().items() if before.get(number) != name}
    assert set(found) == {one.fileno(), other.fileno()}
    assert len(set(found.values())) == 2
    for descriptor in (reading, writing):
        os.close(descriptor)
    one.close()
    other.close()
    assert not set(found.values()) & set(open_sockets().values())


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def test_whoever_waits_for_a_rank_that_leaves_is_woken() -> None:
    near, far = connected()
    leave({near.fileno(): open_sockets()[near.fileno()]})
    far.settimeout(10)
    assert far.recv(1) == b""
    near.close()
    far.close()


def test_a_number_that_is_somebody_elses_by_now_and_a_listener_are_left_alone() -> None:
    near, far = connected()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        leave({near.fileno(): "socket:[1]", listener.fileno(): open_sockets()[listener.fileno()], 10**6: "socket:[2]"})
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        socket.create_connection(listener.getsockname(), timeout=10).close()
    near.close()
    far.close()
