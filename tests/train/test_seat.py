import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


ASSIGNMENTS = st.builds(
    Assignment,
    generation=st.integers(0, 99),
    rank=st.integers(0, 99),
    world_size=st.integers(1, 99),
    source=st.none() | st.integers(0, 99),
    position=st.none() | st.fixed_dictionaries({"loop": st.integers(0, 3), "step": st.integers(0, 10**9)}),
    checkpoint=st.none() | st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    drawn_by=st.integers(0, 99),
    spec=st.dictionaries(st.text(max_size=5), st.booleans() | st.integers(), max_size=3),
    skip=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 10**6)), max_size=4).map(tuple),
)


@given(ASSIGNMENTS)
def test_an_assignment_travels_as_json(assignment: Assignment) -> None:
    assert Assignment.from_json(json.loads(json.dumps(asdict(assignment)))) == assignment


def test_an_assignment_alone_starts_from_nothing() -> None:
    first = Assignment(0, 1, 4)
    assert (first.source, first.position, first.checkpoint, dict(first.spec), first.skip) == (None, None, None, {}, ())


@pytest.mark.parametrize("cut", [1, 5, 20, 33, 1000])
def test_messages_are_put_together_wherever_the_stream_is_cut(cut: int) -> None:
    one, other = socket.socketpair()
    sent = [{"kind": "a", "text": "é\n"}, {"kind": "b", "number": 1.5}, {"kind": "c", "list": [None, True]}]
    data = b"".join(json.dumps(each).encode() + b"\n" for each in sent)
    line, got = Line(other), []
    for begin in range(0, len(data), cut):
        one.sendall(data[begin : begin + cut])
        got += line.received(wait=False) or []
    assert got == sent
    one.close()
    assert line.received(wait=False) is None
    line.close()


def test_half_a_message_of_one_that_died_is_never_heard() -> None:
    one, other = socket.socketpair()
    one.sendall(b'{"kind": "whole"}\n{"kind": "ha')
    one.close()
    line = Line(other)
    assert line.received(wait=True) == [{"kind": "whole"}]
    assert line.received(wait=True) is None
    line.close()


def test_several_messages_in_one_go_come_in_order(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    for number in range(50):
        rank.send("step", number=number)
    got: list[dict[str, Any]] = []
    while len(got) < 50:
        got += host.received(wait=True) or []
    assert [each["number"] for each in got] == list(range(50))
    assert {each["kind"] for each in got} == {"step"}


def test_a_line_has_a_number_to_wait_on(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    assert host.fileno() != rank.fileno()
    rank.close()
    assert rank.fileno() == -1


def test_assignments_that_come_early_wait_in_order(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    for generation in (1, 2):
        host.send("assign", assignment=asdict(Assignment(generation, generation - 1, 3 - generation)))
    seat = Seat(0, 2, line=rank)
    seat.listen({})
    assert [(seat.next_assignment() or Assignment(0, 0, 0)).generation for _ in range(2)] == [1, 2]
    assert (seat.rank, seat.world_size, seat.generation) == (1, 1, 2)
    assert seat.assignment is not None
    assert seat.assignment.generation == 2


def test_whoever_listens_twice_still_hears_each_message_once(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    heard: list[int] = []
    seat = Seat(0, 2, line=rank)
    for _ in range(3):
        seat.listen({"record": lambda message: heard.append(message["number"])})
    for number in range(5):
        host.send("record", number=number)
    host.send("end")
    assert seat.next_assignment() is None
    assert heard == [0, 1, 2, 3, 4]
    assert sum(thread.name.startswith("line of process") for thread in threading.enumerate()) == 1


def test_what_a_rank_tells_reaches_its_host(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    Seat(1, 2, line=rank).tell("lost", failure="worker_lost", position={"step": 3})
    assert host.received(wait=True) == [{"kind": "lost", "failure": "worker_lost", "position": {"step": 3}}]


def test_a_seat_keeps_its_number_when_it_is_told_to_end(lines: tuple[Line, Line]) -> None:
    host, rank = lines
    seat = Seat(3, 4, generation=2, line=rank)
    seat.listen({})
    host.send("end")
    assert seat.next_assignment() is None
    assert (seat.rank, seat.world_size, seat.generation, seat.assignment) == (3, 4, 2, None)
