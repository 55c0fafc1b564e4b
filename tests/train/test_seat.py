import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from bedplate.train.seat import Assignment, Line, Seat


@pytest.fixture
def lines() -> Iterator[tuple[Line, Line]]:
    """The host's end and the rank's."""
    one, other = socket.socketpair()
    yield Line(one), Line(other)
    one.close()
    for thread in threading.enumerate():
        if thread.name.startswith("line of process"):
            thread.join(10)
    other.close()


def test_messages_arrive_whole_and_in_order_however_long_they_are(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    sent = [{"kind": "failure", "text": "x" * size} for size in (0, 70_000, 3)]
    thread = threading.Thread(target=lambda: [rank.send("failure", text=each["text"]) for each in sent])
    thread.start()
    got: list[dict[str, str]] = []
    while len(got) < 3:
        got += host.received(wait=True) or []
    thread.join()
    assert got == sent
    assert host.received(wait=False) == []
    rank.close()
    assert host.received(wait=True) is None
    host.send("assign")  # to one that is gone: dropped


def test_a_rank_takes_the_seat_that_it_is_given_also_when_other_things_were_said_before(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    seat, heard = Seat(3, 4, line=rank), []
    seat.listen({"record": heard.append})
    host.send("record", path="here")
    host.send("assign", assignment=asdict(Assignment(2, 1, 2, source=0, position={"step": 5}, skip=((0, 1, 64),))))
    assignment = seat.next_assignment()
    assert assignment is not None
    assert (seat.rank, seat.world_size, seat.generation) == (1, 2, 2)
    assert (assignment.source, assignment.skip) == (0, ((0, 1, 64),))
    assert [message["path"] for message in heard] == ["here"]


@pytest.mark.parametrize("end", ["end", "hang up"])
def test_a_rank_for_which_there_is_no_seat_ends(lines: tuple[Line, Line], end: str) -> None:
    host, rank = lines
    seat = Seat(0, 2, line=rank)
    seat.listen({})
    if end == "end":
        host.send("end")
    else:
        host.close()
    assert seat.next_assignment() is None


def test_a_rank_without_a_host_has_no_next_seat_and_says_nothing() -> None:
    seat = Seat(0)
    seat.listen({})
    seat.tell("lost")
    assert seat.next_assignment() is None
