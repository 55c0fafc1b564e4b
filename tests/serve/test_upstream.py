"""Asking one replica over kept connections: whole answers, pieces, and connections that end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bedplate.serve.listen import bind
from bedplate.serve.upstream import Broken, Upstream

ASK = b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Said: yes\r\n\r\nok"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def with_replica(script: Script, asked: Callable[[Upstream], Awaitable[Any]]) -> tuple[Any, int]:
    """As `_with_replica`, in an event loop of its own."""
    return asyncio.run(_with_replica(script, asked))


async def _with_replica(script: Script, asked: Callable[[Upstream], Awaitable[Any]]) -> tuple[Any, int]:
    """What `asked` gives of a replica whose every connection follows `script`, and how many connections there were."""
    connections = 0

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(follow, sock=bind(0))
    async with server:
        upstream = Upstream(server.sockets[0].getsockname()[1])
        found = await asyncio.wait_for(asked(upstream), 10)
        upstream.close()
    await asyncio.sleep(0.01)
    return found, connections


async def read(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n{}")


def test_answers_over_one_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read(reader)
            for byte in OK:  # however the network cuts it
                writer.write(bytes([byte]))
                await writer.drain()

    async def asked(upstream: Upstream) -> list[tuple[int, bytes]]:
        replies = [await upstream.ask(ASK) for _ in range(3)]
        assert replies[0].headers == [(b"content-length", b"2"), (b"x-said", b"yes")]
        return [(reply.status, reply.body) for reply in replies]

    assert with_replica(script, asked) == ([(200, b"ok")] * 3, 1)


def test_a_replica_that_says_so_gets_a_new_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(OK.replace(b"X-Said: yes", b"Connection: close"))
        await writer.drain()

    async def asked(upstream: Upstream) -> list[bytes]:
        return [(await upstream.ask(ASK)).body for _ in range(3)]

    assert with_replica(script, asked) == ([b"ok"] * 3, 3)


@pytest.mark.parametrize("said", [b"", OK[:-1], b"HTTP/1.1 200", b"what?\r\n\r\n"])
def test_a_connection_that_ends_before_the_answer_is_whole_is_broken(said: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(said)
        await writer.drain()

    async def asked(upstream: Upstream) -> bool:
        with pytest.raises(Broken) as broken:
            await upstream.ask(ASK)
        return broken.value.sent

    assert with_replica(script, asked) == (True, 1)


def test_a_port_at_which_nobody_listens_was_sent_nothing() -> None:
    with bind(0) as free:
        port = free.getsockname()[1]
    with pytest.raises(Broken) as broken:
        asyncio.run(Upstream(port).ask(ASK))
    assert not broken.value.sent


def test_pieces_come_as_they_are_sent_and_an_end_in_between_is_told() -> None:
    go = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(head + b"3\r\none\r\n")
        await go.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await read(reader)
        writer.write(head + b"3\r\none\r\n")
        await writer.drain()

    async def asked(upstream: Upstream) -> list[bytes]:
        reply = await upstream.ask(ASK)
        assert reply.pieces is not None
        got = [await anext(reply.pieces)]
        go.set()
        got += [piece async for piece in reply.pieces]
        again = await upstream.ask(ASK)
        assert again.pieces is not None
        got.append(await anext(again.pieces))
        with pytest.raises(Broken):
            await anext(again.pieces)
        return got

    assert with_replica(script, asked) == ([b"one", b"two", b"one"], 1)


def test_who_waits_no_more_ends_the_connection() -> None:
    ended = asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read(reader)
        assert await reader.read() == b""
        ended.set()

    async def asked(upstream: Upstream) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(upstream.ask(ASK), 0.05)
        await ended.wait()

    assert with_replica(script, asked) == (None, 1)
