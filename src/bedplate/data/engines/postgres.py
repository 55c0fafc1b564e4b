"""Postgres as an online store: one table of bytes by key, commits serialized by the guard's row.

The comparison takes an advisory lock named by the guard for the length of the transaction, so a guard that is not there yet is safe too.
Each thread has a connection of its own, which is made anew after it broke.
Does not know: what is in a row.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg

from bedplate.core.digest import digest
from bedplate.core.errors import Unavailable

PAGE = 1000
TIMEOUT_S = 5
_TABLE = "CREATE TABLE IF NOT EXISTS bedplate_online (key bytea PRIMARY KEY, body bytea NOT NULL)"
_GET = "SELECT key, body FROM bedplate_online WHERE key = ANY(%s)"
_PUT = "INSERT INTO bedplate_online VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET body = excluded.body"
_SCAN = "SELECT key FROM bedplate_online WHERE key > %s AND substr(key, 1, %s) = %s ORDER BY key LIMIT %s"
_SCHEMA_LOCK = 0x62656470  # any number that every process takes for the making of the table


class PostgresEngine:
    """One database of a Postgres server, with one table for all stores."""

    def __init__(self, address: str) -> None:
        """Connect to `postgres://user:password@host:port/database` and make the table when it is not there.

        Raises Unavailable when nobody answers, or the password is refused.
        """
        self._address = address
        self._local = threading.local()
        self._opened: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        try:
            connection = self._connection()
        except psycopg.OperationalError as error:
            shown = address.partition("://")[2].rpartition("@")[2]
            fix = "check the endpoint's `store`, that it runs, and its password"
            raise Unavailable("Postgres does not answer, or refuses", value=shown, fix=fix) from error
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            connection.execute(_TABLE)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One SELECT."""
        if not keys:
            return []
        rows = self._connection().execute(_GET, (list(keys),), binary=True).fetchall()
        found = {bytes(key): bytes(body) for key, body in rows}
        return [found.get(key) for key in keys]

    def commit(self, guard: bytes, expected: bytes | None, puts: Mapping[bytes, bytes], drops: Collection[bytes]) -> bool:
        """One transaction."""
        connection = self._connection()
        with connection.transaction() as transaction, connection.cursor(binary=True) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (int(digest(guard.hex())[:15], 16),))
            found = cursor.execute("SELECT body FROM bedplate_online WHERE key = %s", (guard,)).fetchone()
            same = (None if found is None else bytes(found[0])) == expected
            if not same:
                raise psycopg.Rollback(transaction)
            cursor.executemany(_PUT, list(puts.items()))
            if drops:
                cursor.execute("DELETE FROM bedplate_online WHERE key = ANY(%s)", (list(drops),))
        return same

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Pages of inserts."""
        remaining = iter(rows)
        while page := list(itertools.islice(remaining, PAGE)):
            with self._connection().transaction(), self._connection().cursor(binary=True) as cursor:
                cursor.executemany(_PUT, page)

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """Pages in order of key."""
        last = prefix[:-1] if prefix else b""
        while True:
            rows = self._connection().execute(_SCAN, (last, len(prefix), prefix, PAGE), binary=True).fetchall()
            page = [bytes(key) for (key,) in rows]
            if page:
                yield page
            if len(page) < PAGE:
                return
            last = page[-1]

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    def _connection(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = psycopg.connect(self._address, autocommit=True, connect_timeout=TIMEOUT_S)
            self._local.connection = connection
            with self._lock:
                self._opened = [known for known in self._opened if not known.closed] + [connection]
        return connection


def opened(address: str) -> PostgresEngine:
    """The engine of a Postgres URL."""
    return PostgresEngine(address)
