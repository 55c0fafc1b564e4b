"""Redis as an online store: a row is a string key; a commit is one script, which Redis runs alone.

How durable a commit is, Redis decides (`appendonly`). All keys of one commit must be on one server: no cluster mode.
Does not know: what is in a row.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bedplate.core.errors import Unavailable

PAGE = 1000
TIMEOUT_S = 5.0
_COMMIT = """
local guard = redis.call('GET', KEYS[1])
if ARGV[1] == '0' then
  if guard then return 0 end
elseif guard ~= ARGV[2] then
  return 0
end
local puts = tonumber(ARGV[3])
for i = 1, puts do redis.call('SET', KEYS[1 + i], ARGV[3 + i]) end
for i = 2 + puts, #KEYS do redis.call('DEL', KEYS[i]) end
return 1
"""


class RedisEngine:
    """One database of a Redis server."""

    def __init__(self, address: str) -> None:
        """Connect to `redis://[:password@]host:port/database`. Raises Unavailable when nobody answers, or the password is refused."""
        self._local = threading.local()
        self._opened: list[Any] = []
        self._lock = threading.Lock()
        self._redis: Any = redis.Redis.from_url(
            address, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 1)
        )
        try:
            self._redis.ping()
        except redis.RedisError as error:
            self.close()
            what = f"Redis does not answer: {type(error).__name__}"
            raise Unavailable(what, value=_shown(address), fix="check the endpoint's `store`, that it runs, and its password") from error
        self._commit = self._redis.register_script(_COMMIT)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One MGET, on a connection of the thread's own: it is the one call that answers wait for, and half of redis-py's time is spent on
        what a pool and general commands need.
        """
        if not keys:
            return []
        packed = b"".join([b"*%d\r\n$4\r\nMGET\r\n" % (len(keys) + 1), *[b"$%d\r\n%b\r\n" % (len(key), key) for key in keys]])
        try:
            return self._asked(packed)
        except (redis.ConnectionError, redis.TimeoutError):
            self._connection().disconnect()  # it may have been closed while nobody asked: a new one, once
            return self._asked(packed)

    def commit(self, guard: bytes, expected: bytes | None, puts: Mapping[bytes, bytes], drops: Collection[bytes]) -> bool:
        """One script: nothing else runs between the comparison and the writes."""
        arguments = [0 if expected is None else 1, expected or b"", len(puts), *puts.values()]
        return bool(self._commit(keys=[guard, *puts, *drops], args=arguments))

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Pages of MSET."""
        remaining = iter(rows)
        while page := dict(itertools.islice(remaining, PAGE)):
            self._redis.mset(page)

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """SCAN with the prefix as a pattern; a key may come twice."""
        pattern = b"".join(b"\\" + bytes([byte]) if byte in b"*?[]^-\\" else bytes([byte]) for byte in prefix) + b"*"
        cursor = 0
        while True:
            cursor, keys = self._redis.scan(cursor, match=pattern, count=PAGE)
            if keys:
                yield list(keys)
            if not cursor:
                return

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for connection in self._opened:
                connection.disconnect()
            self._opened.clear()
        self._redis.close()

    def _asked(self, packed: bytes) -> list[bytes | None]:
        connection = self._connection()
        connection.send_packed_command([packed], check_health=False)
        return list(connection.read_response())

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._redis.connection_pool.make_connection()
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
        return connection


def _shown(address: str) -> str:
    """The address without its password."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def opened(address: str) -> RedisEngine:
    """The engine of a Redis URL."""
    return RedisEngine(address)
