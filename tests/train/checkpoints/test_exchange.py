"""Requests with bytes in them over real connections: whole or an error, and nothing for a stranger."""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.exchange import DIGEST_BYTES, HEADER_LIMIT_BYTES, NONCE_BYTES, Address, Connection, Receiver, ask, connect

TOKEN = b"known to the group"
HERE = "127.0.0.1"


def echo(header: dict[str, Any], connection: Connection) -> None:
    """Answers with what it was sent, backwards; `fail` is what to do instead."""
    data = connection.rest(header)
    if header.get("fail") == "os":
        raise OSError(28, "No space left on device")
    if header.get("fail"):
        raise CheckpointError(header["fail"])
    connection.send({"done": True}, memoryview(data[::-1]))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver(HERE, TOKEN, echo)
    yield made
    made.close()


@given(st.binary(max_size=1 << 12), st.integers(0, 200))
def test_bytes_arrive_as_they_were_sent(receiver: Receiver, data: bytes, times: int) -> None:
    assert ask(receiver.address, TOKEN, {"do": "echo"}, data * times, given_up=Event()) == (data * times)[::-1]


def test_many_megabytes_arrive(receiver: Receiver) -> None:
    data = bytes(range(256)) * (1 << 16)
    assert ask(receiver.address, TOKEN, {"do": "echo"}, memoryview(data), given_up=Event()) == data[::-1]


@pytest.mark.parametrize(("fail", "message"), [("it is not here", "it is not here"), ("os", "No space left on device")])
def test_what_the_other_side_could_not_do_is_said(receiver: Receiver, fail: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ask(receiver.address, TOKEN, {"fail": fail}, b"abc", given_up=Event())


@pytest.mark.parametrize("token", [b"", b"another", TOKEN + b"!"])
def test_a_stranger_is_hung_up_on_without_an_answer(receiver: Receiver, token: bytes) -> None:
    with pytest.raises(OSError):
        ask(receiver.address, token, {"do": "echo"}, b"abc", given_up=Event())


def test_a_message_that_is_none_of_ours_is_no_reason_to_take_memory(receiver: Receiver) -> None:
    connection = connect(receiver.address, TOKEN, Event())
    connection._push(memoryview((HEADER_LIMIT_BYTES + 1).to_bytes(4, "big")))
    with pytest.raises(OSError):
        connection.answer()
    connection.close()


def test_nobody_listens() -> None:
    with socket.create_server((HERE, 0)) as listener:
        address = Address(HERE, listener.getsockname()[1])
    with pytest.raises(OSError):
        ask(address, TOKEN, {}, given_up=Event())


def test_one_who_is_silent_is_waited_for_only_until_it_is_given_up() -> None:
    given_up = Event()
    with socket.create_server((HERE, 0)) as listener:
        address = Address(HERE, listener.getsockname()[1])
        threading.Timer(0.2, given_up.set).start()
        with pytest.raises(TimeoutError):
            ask(address, TOKEN, {}, given_up=given_up)
    assert given_up.is_set()


def test_a_closed_receiver_takes_nobody_in_and_lets_go_of_those_it_has() -> None:
    begun = Event()

    def wait(header: dict[str, Any], connection: Connection) -> None:
        begun.set()
        connection.rest(header)

    receiver = Receiver(HERE, TOKEN, wait)
    connection = connect(receiver.address, TOKEN, Event())
    connection._push(memoryview((12).to_bytes(4, "big") + b'{"bytes": 9}'))  # and the nine bytes never come
    assert begun.wait(10)
    receiver.close()
    with pytest.raises((OSError, CheckpointError)):
        connection.answer()
    connection.close()
    with pytest.raises(OSError):
        connect(receiver.address, TOKEN, Event())


@pytest.fixture
def pair() -> Iterator[tuple[Connection, Connection]]:
    one, other = socket.socketpair()
    ends = Connection(one, Event(), limit_s=10), Connection(other, Event(), limit_s=10)
    yield ends
    for end in ends:
        end.close()


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=5), st.binary(max_size=300))
def test_a_message_is_its_header_and_as_many_bytes_as_it_says(header: dict[str, Any], payload: bytes) -> None:
    one, other = socket.socketpair()
    left, right = Connection(one, Event()), Connection(other, Event())
    left.send(header, payload)
    found = right.header()
    assert found == {**header, "bytes": len(payload)}
    assert right.rest(found) == payload
    left.close()
    right.close()


def test_messages_on_one_connection_follow_one_another(pair: tuple[Connection, Connection]) -> None:
    left, right = pair
    for number in range(20):
        left.send({"number": number}, bytes([number]) * number)
    for number in range(20):
        header = right.header()
        assert (header["number"], right.rest(header)) == (number, bytes([number]) * number)


def test_bytes_are_filled_into_memory_that_is_there_already(pair: tuple[Connection, Connection]) -> None:
    left, right = pair
    left.send({}, b"abcdef")
    into = bytearray(b"..........")
    assert right.header()["bytes"] == 6
    right.fill(memoryview(into)[2:8])
    assert into == b"..abcdef.."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"done": False, "why": "the disk is full"}, "the disk is full"),
        ({"done": False}, "another rank could not do it"),
        ({}, "could not"),
    ],
)
def test_an_answer_that_is_none_says_why(pair: tuple[Connection, Connection], answer: dict[str, Any], why: str) -> None:
    pair[0].send(answer, b"and some bytes that are read all the same")
    with pytest.raises(CheckpointError, match=why):
        pair[1].answer()
    pair[0].send({"done": True}, b"next")
    assert pair[1].answer() == b"next"


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x09{}", b'\0\0\0\x0c{"bytes": 9}abc'])
def test_one_that_hangs_up_in_the_middle_of_a_message_is_noticed(sent: bytes) -> None:
    one, other = socket.socketpair()
    connection = Connection(other, Event())
    one.sendall(sent)
    one.close()
    with pytest.raises(ConnectionResetError, match="hung up"):
        connection.answer()
    connection.close()


def test_a_silent_one_is_waited_for_as_long_as_the_limit_says() -> None:
    one, other = socket.socketpair()
    connection, begun_s = Connection(other, Event(), limit_s=0.3), time.monotonic()
    with pytest.raises(TimeoutError):
        connection.header()
    assert time.monotonic() - begun_s >= 0.3
    connection.close()
    one.close()


def test_one_that_takes_nothing_is_waited_for_only_so_long() -> None:
    one, other = socket.socketpair()
    connection = Connection(one, Event(), limit_s=0.3)
    with pytest.raises(TimeoutError):
        connection.send({}, bytes(32 << 20))
    connection.close()
    other.close()


def test_a_slow_one_is_waited_for_as_long_as_bytes_come() -> None:
    one, other = socket.socketpair()
    connection = Connection(other, Event(), limit_s=0.45)

    def drip() -> None:
        for byte in b'\0\0\0\x0c{"bytes": 0}'[:5]:
            time.sleep(0.15)
            one.sendall(bytes([byte]))
        one.sendall(b'"bytes": 0}')

    thread = threading.Thread(target=drip)
    thread.start()
    assert connection.header() == {"bytes": 0}
    thread.join()
    connection.close()
    one.close()


def test_closing_wakes_whoever_waits_in_another_thread(pair: tuple[Connection, Connection]) -> None:
    ended: list[type[BaseException]] = []

    def wait() -> None:
        try:
            pair[1].header()
        except OSError as error:
            ended.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    pair[1].close()
    thread.join(10)
    assert len(ended) == 1
    pair[1].close()  # a second time does no harm


@pytest.mark.parametrize(("text", "why"), [(b"{}", "'bytes'"), (b'{"bytes": "many"}', "many"), (b'{"bytes": -1}', "negative")])
def test_a_request_that_makes_no_sense_is_answered_with_what_is_wrong(receiver: Receiver, text: bytes, why: str) -> None:
    connection = connect(receiver.address, TOKEN, Event())
    connection._push(memoryview(len(text).to_bytes(4, "big") + text))
    with pytest.raises(CheckpointError, match=why):
        connection.answer()
    connection.close()


def test_a_long_reason_is_one_line_and_cut(receiver: Receiver) -> None:
    with pytest.raises(CheckpointError) as raised:
        ask(receiver.address, TOKEN, {"fail": "so\n  long " * 200}, given_up=Event())
    assert "so long so long" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) <= 600


def test_the_proof_is_of_the_number_that_the_receiver_drew_and_the_token_is_never_sent(receiver: Receiver) -> None:
    drawn = set()
    for _ in range(2):
        with socket.create_connection((receiver.address.host, receiver.address.port), timeout=10) as raw:
            nonce = raw.recv(NONCE_BYTES, socket.MSG_WAITALL)
            drawn.add(nonce)
            proof = hmac.digest(TOKEN, nonce, "sha256")
            assert len(proof) == DIGEST_BYTES
            text = json.dumps({"bytes": 3}).encode()
            raw.sendall(proof + len(text).to_bytes(4, "big") + text + b"abc")
            length = int.from_bytes(raw.recv(4, socket.MSG_WAITALL), "big")
            assert json.loads(raw.recv(length, socket.MSG_WAITALL)) == {"done": True, "bytes": 3}
            assert raw.recv(3, socket.MSG_WAITALL) == b"cba"
    assert len(drawn) == 2, "what was overheard once opens nothing later"


def test_a_proof_that_was_overheard_is_refused(receiver: Receiver) -> None:
    with socket.create_connection((receiver.address.host, receiver.address.port), timeout=10) as raw:
        overheard = hmac.digest(TOKEN, raw.recv(NONCE_BYTES, socket.MSG_WAITALL), "sha256")
    with socket.create_connection((receiver.address.host, receiver.address.port), timeout=10) as raw:
        raw.recv(NONCE_BYTES, socket.MSG_WAITALL)
        raw.sendall(overheard)
        assert raw.recv(1) == b""


def test_one_that_is_slow_holds_nobody_else_up(receiver: Receiver) -> None:
    slow = connect(receiver.address, TOKEN, Event())
    slow._push(memoryview(b"\0\0"))
    assert ask(receiver.address, TOKEN, {}, b"abc", given_up=Event()) == b"cba"
    slow.close()


def test_requests_of_many_at_once_are_each_answered_with_their_own(receiver: Receiver) -> None:
    answers: dict[int, bytes] = {}

    def one(number: int) -> None:
        answers[number] = bytes(ask(receiver.address, TOKEN, {}, bytes([number]) * 70_000 + b"!", given_up=Event()))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert answers == {number: b"!" + bytes([number]) * 70_000 for number in range(8)}
