"""Listening: loopback only, a port that a successor shares, and an end that loses no answer. Replicas here are real processes."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bedplate.core.errors import BedplateError, Busy
from bedplate.serve import listen
from bedplate.serve.listen import LOOPBACK, Listener, bind, prefer_newest, taken
from serve.replica import serving

REPLICA = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from bedplate.serve.listen import bind, run

    port, name, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

    async def who(request):
        return PlainTextResponse(name)

    async def slow(request):
        (folder / "begun").touch()
        while not (folder / "go").exists():
            await asyncio.sleep(0.01)
        return PlainTextResponse("slow " + name)

    run(Starlette(routes=[Route("/", who), Route("/slow", slow)]), bind(port),
        on_ready=lambda port: print(port, flush=True), on_stop=lambda: print("stopped", flush=True))
    print("after", flush=True)
""")


class Replica:
    """One serving process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.output = process.stdout
        self.port = int(self.output.readline())
        self.address = f"http://{LOOPBACK}:{self.port}"


@contextmanager
def replica(name: str, folder: Path, port: int = 0) -> Iterator[Replica]:
    command = [sys.executable, "-c", REPLICA, str(port), name, os.fspath(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Replica(process)
        finally:
            process.kill()


def get(address: str, path: str = "/") -> str:
    return httpx.get(address + path, trust_env=False, timeout=30).raise_for_status().text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "8.8.8.8"])
def test_an_address_that_others_reach_is_refused(host: str) -> None:
    with pytest.raises(BedplateError, match="loopback only") as caught:
        bind(0, host)
    assert caught.value.value == host
    assert LOOPBACK in str(caught.value.fix)


def test_a_name_is_no_address() -> None:
    with pytest.raises(BedplateError, match="not a name"):
        bind(0, "localhost")


def test_a_free_port_is_taken_on_loopback_only() -> None:
    with bind(0) as sock:
        host, port = sock.getsockname()
        assert (host, port > 0) == (LOOPBACK, True)


def test_a_strangers_port_is_busy() -> None:
    with socket.create_server((LOOPBACK, 0)) as stranger:
        with pytest.raises(Busy, match="cannot be bound") as caught:
            bind(stranger.getsockname()[1])
        assert caught.value.value == stranger.getsockname()[1]


def test_a_bound_socket_takes_no_connection_before_it_serves() -> None:
    with bind(0) as sock, pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname(), timeout=5).close()


def test_answers_leave_at_once() -> None:
    """A socket without TCP_NODELAY waits 40 ms for an acknowledgement between the head and the body of an answer."""
    with bind(0) as sock:
        sock.listen()
        with socket.create_connection(sock.getsockname()):
            accepted, _ = sock.accept()
            with accepted:
                assert accepted.proto == socket.IPPROTO_TCP  # exactly then asyncio disables Nagle's algorithm


def test_a_listener_in_a_thread_starts_and_stops() -> None:
    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    with serving(Starlette(routes=[Route("/", hello)])) as address:
        assert get(address) == "hello"
    with pytest.raises(httpx.ConnectError):
        get(address)


def test_who_connected_before_the_end_is_still_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "LAST_REQUEST_S", 2.0)

    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    listener = Listener(Starlette(routes=[Route("/", hello)]), bind(0), on_ready=lambda port: ready.put(port))
    ready: queue.Queue[int] = queue.Queue()
    thread = threading.Thread(target=listener.serve_until_stopped)
    thread.start()
    port = ready.get(timeout=30)
    with socket.create_connection((LOOPBACK, port), timeout=30) as connection:
        get(f"http://{LOOPBACK}:{port}")  # a later connection was served: the one before is accepted
        listener.stop()
        wait_refused(port)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"hello")
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_and_with_success(tmp_path: Path, number: signal.Signals) -> None:
    with replica("one", tmp_path) as one:
        assert get(one.address) == "one"
        one.process.send_signal(number)
        assert one.output.read() == "stopped\nafter\n"
        assert one.process.wait(30) == 0


def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    with replica("one", tmp_path) as one:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(get(one.address, "/slow")))
        asking.start()
        wait_for(tmp_path / "begun")
        one.process.send_signal(signal.SIGTERM)
        wait_refused(one.port)
        (tmp_path / "go").touch()
        asking.join(30)
        assert answers == ["slow one"]
        assert one.output.read() == "stopped\nafter\n"
        assert one.process.wait(30) == 0


def test_a_successor_takes_the_port_while_the_old_one_finishes(tmp_path: Path) -> None:
    with replica("old", tmp_path) as old:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(get(old.address, "/slow")))
        asking.start()
        wait_for(tmp_path / "begun")
        with replica("new", tmp_path, old.port) as new:
            assert new.port == old.port
            old.process.send_signal(signal.SIGTERM)
            while tried(new.address) != "new":  # until the old one stops taking connections, either may answer
                pass
            assert {get(new.address) for _ in range(20)} == {"new"}
            (tmp_path / "go").touch()
            asking.join(30)
            assert answers == ["slow old"]
            assert old.process.wait(30) == 0
            assert get(new.address) == "new"


def tried(address: str) -> str | None:
    """An answer; None for a connection that was reset in the instant of the end, which a client tries again."""
    try:
        return get(address)
    except httpx.TransportError:
        return None


def wait_for(path: Path) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if path.exists():
            return
        pause.wait(0.01)
    raise AssertionError(f"{path} did not appear")


def wait_refused(port: int) -> None:
    """Wait until nobody takes connections on the port."""
    pause = threading.Event()
    for _ in range(3000):
        try:
            socket.create_connection((LOOPBACK, port), timeout=5).close()
        except ConnectionRefusedError:
            return
        pause.wait(0.01)
    raise AssertionError("the port still takes connections")


@contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    with bind(port) as sock:
        sock.listen(200)
        yield sock


def connect(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection((LOOPBACK, port), timeout=10) for _ in range(count)]


def close(connections: list[socket.socket]) -> int:
    for connection in connections:
        connection.close()
    return len(connections)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a program choose among the sockets of a port")
def test_all_new_connections_go_to_the_newer_socket_and_the_older_one_loses_none() -> None:
    with listening() as old:
        port = old.getsockname()[1]
        before = connect(port, 30)
        with listening(port) as new:
            prefer_newest(old)
            after = connect(port, 30)
            assert close(taken(old)) == 30, "those that waited when the newer one came"
            assert old.fileno() == -1, "it is closed after the last"
            alone = connect(port, 30)
            with listening(port) as newest:
                prefer_newest(new)
                last = connect(port, 30)
                assert close(taken(new)) == 60
                assert close(taken(newest)) == 30
        close([*before, *after, *alone, *last])


def test_who_connected_and_has_not_asked_when_a_listener_is_told_to_stop_is_answered(tmp_path: Path) -> None:
    with replica("a", tmp_path) as served:
        early = [socket.create_connection((LOOPBACK, served.port), timeout=10) for _ in range(5)]
        served.process.send_signal(signal.SIGTERM)
        for connection in early:
            with connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
        assert served.process.wait(30) == 0
