"""Requests between ranks with bytes in them, over TCP: how one host's memory is written and read from another.

A caller proves that it knows the group's token by HMAC-SHA256 over a number that the other side drew; the bytes themselves are not
encrypted, as gloo's and NCCL's are not. A message is its header's length (4 bytes), the header (JSON), and as many bytes as it says.
Does not know: checkpoints, or what a request means.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from bedplate.core.errors import CheckpointError

NONCE_BYTES = 16
DIGEST_BYTES = 32
HEADER_LIMIT_BYTES = 1 << 20
SEND_BYTES = 4 << 20
TURN_S = 0.2  # after so long without a byte it is asked whether to go on waiting
STALL_LIMIT_S = 60.0  # of one side that neither takes nor gives
GIVEN_UP_LIMIT_S = 1.0  # the same, once somebody said that the other side may be gone


@dataclass(frozen=True)
class Address:
    """Where a receiver listens."""

    host: str
    port: int


class Connection:
    """One connection, from either side. Everything raises OSError when the other side is gone or stalls."""

    def __init__(self, connected: socket.socket, given_up: Event, limit_s: float = STALL_LIMIT_S) -> None:
        connected.settimeout(TURN_S)
        self._socket = connected
        self._given_up = given_up
        self._limit_s = limit_s

    def send(self, header: Mapping[str, Any], payload: memoryview | bytes = b"") -> None:
        """Send one message."""
        text = json.dumps({**header, "bytes": len(payload)}).encode()
        self._push(memoryview(len(text).to_bytes(4, "big") + text))
        self._push(memoryview(payload))

    def header(self) -> dict[str, Any]:
        """The header of the next message; `bytes` says how many come after it, for `fill` or `rest`."""
        size = bytearray(4)
        self.fill(memoryview(size))
        length = int.from_bytes(size, "big")
        if length > HEADER_LIMIT_BYTES:
            raise ConnectionError("a message that is none of ours")
        text = bytearray(length)
        self.fill(memoryview(text))
        found: dict[str, Any] = json.loads(text)
        return found

    def fill(self, into: memoryview) -> None:
        """Fill `into` with the bytes that come next."""
        done = 0
        while done < len(into):
            count = self._patiently(lambda: self._socket.recv_into(into[done:]))  # noqa: B023 - called before `done` changes
            if not count:
                raise ConnectionResetError("the other side hung up")
            done += count

    def rest(self, header: Mapping[str, Any]) -> bytearray:
        """The bytes that belong to `header`."""
        data = bytearray(int(header["bytes"]))
        self.fill(memoryview(data))
        return data

    def answer(self) -> bytearray:
        """The bytes of the other side's answer. Raises CheckpointError when it could not do what was asked."""
        header = self.header()
        data = self.rest(header)
        if not header.get("done"):
            raise CheckpointError(str(header.get("why", "another rank could not do it")))
        return data

    def close(self) -> None:
        """Hang up; what waits on this connection in another thread fails."""
        with suppress(OSError):  # the other side was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _push(self, data: memoryview) -> None:
        done = 0
        while done < len(data):
            done += self._patiently(lambda: self._socket.send(data[done : done + SEND_BYTES]))  # noqa: B023 - called before `done` changes

    def _patiently(self, act: Callable[[], int]) -> int:
        begun_s = time.monotonic()
        while True:
            try:
                return act()
            except TimeoutError:
                waited_s = time.monotonic() - begun_s
                if waited_s > (min(GIVEN_UP_LIMIT_S, self._limit_s) if self._given_up.is_set() else self._limit_s):
                    raise


def connect(address: Address, token: bytes, given_up: Event, limit_s: float = STALL_LIMIT_S) -> Connection:
    """A connection to the receiver at `address`, proven to be the group's. Raises OSError."""
    connected = socket.create_connection((address.host, address.port), timeout=limit_s)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(connected, given_up, limit_s)
    try:
        nonce = bytearray(NONCE_BYTES)
        connection.fill(memoryview(nonce))
        connected.sendall(_proof(token, nonce))
    except OSError:
        connection.close()
        raise
    return connection


def ask(
    address: Address,
    token: bytes,
    header: Mapping[str, Any],
    payload: memoryview | bytes = b"",
    *,
    given_up: Event,
    limit_s: float = STALL_LIMIT_S,
) -> bytearray:
    """One request and the bytes of its answer. Raises OSError, and CheckpointError for what the other side could not do."""
    connection = connect(address, token, given_up, limit_s)
    try:
        connection.send(header, payload)
        return connection.answer()
    finally:
        connection.close()


class Receiver:
    """Answers requests at an address of its own, each in a thread; `answer(header, connection)` reads the bytes and sends the answer."""

    def __init__(self, host: str, token: bytes, answer: Callable[[dict[str, Any], Connection], None]) -> None:
        """Listens from now on. Raises OSError."""
        self._token = token
        self._answer = answer
        self._closing = Event()
        self._listener = socket.create_server((host, 0))
        self.address = Address(host, self._listener.getsockname()[1])
        Thread(target=self._accept, name="peer-receiver", daemon=True).start()

    def close(self) -> None:
        """Listen no more; requests that wait for bytes are given up within a second."""
        self._closing.set()
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connected, _ = self._listener.accept()
            except OSError:  # it was closed
                return
            Thread(target=self._serve, args=(connected,), name="peer-request", daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        connection = Connection(connected, self._closing)
        try:
            nonce = secrets.token_bytes(NONCE_BYTES)
            connected.sendall(nonce)
            proof = bytearray(DIGEST_BYTES)
            connection.fill(memoryview(proof))
            if hmac.compare_digest(bytes(proof), _proof(self._token, nonce)):
                self._answered(connection)
        except OSError:  # whoever asked is gone, or is a stranger that was silent
            return
        finally:
            connection.close()

    def _answered(self, connection: Connection) -> None:
        header = connection.header()
        try:
            self._answer(header, connection)
        except (CheckpointError, KeyError, ValueError) as error:
            connection.send({"done": False, "why": " ".join(str(error).split())[:500]})
        except OSError as error:
            connection.send({"done": False, "why": f"{error.strerror or error}"})


def _proof(token: bytes, nonce: bytes | bytearray) -> bytes:
    return hmac.digest(token, bytes(nonce), "sha256")
