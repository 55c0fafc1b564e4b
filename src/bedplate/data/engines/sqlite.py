"""The embedded online store: one SQLite file with one table of bytes by key.

A file that is being built is written without a journal, beside its place; one that is open for updates uses the write-ahead log, so
readers never wait for the writer. Each thread has a connection of its own.
Does not know: what is in a row.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from bedplate.core.errors import DataError, NotFound

PAGE = 1000
_SCHEMA = "CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
_PUT = "INSERT INTO rows VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body"
_BUSY_S = 30.0


class SqliteEngine:
    """A file as an online store."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`. Raises NotFound when there is none, DataError when it is no online store."""
        if not path.is_file():
            raise NotFound("there is no online store", value=str(path), fix="run the endpoint's features step")
        self._path = path
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._queries: dict[int, str] = {}
        try:
            self._connection().execute("SELECT body FROM rows LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            self.close()
            raise DataError("this is no online store, or it is damaged", value=str(path), fix="run the endpoint's features step") from error

    @staticmethod
    def create(path: Path) -> SqliteEngine:
        """Make an empty store at `path`, or open the one that is there."""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(_SCHEMA)
        return SqliteEngine(path)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One SELECT, which sees one moment of the file."""
        if not keys:
            return []
        count = len(keys)
        query = self._queries.get(count)
        if query is None:
            places = ",".join("?" * count)
            query = self._queries[count] = f"SELECT key, body FROM rows WHERE key IN ({places})"  # noqa: S608 - question marks only
        found = dict(self._connection().execute(query, keys).fetchall())
        return [found.get(key) for key in keys]

    def commit(self, guard: bytes, expected: bytes | None, puts: Mapping[bytes, bytes], drops: Collection[bytes]) -> bool:
        """One transaction, which takes the file's write lock before it looks at the guard."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = connection.execute("SELECT body FROM rows WHERE key = ?", (guard,)).fetchone()
            same = (None if found is None else found[0]) == expected
            if same:
                connection.executemany(_PUT, puts.items())
                connection.executemany("DELETE FROM rows WHERE key = ?", ((key,) for key in drops))
            connection.execute("COMMIT" if same else "ROLLBACK")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return same

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """All rows in one transaction."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_PUT, rows)
        connection.execute("COMMIT")

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """Pages in order of key."""
        last, query = prefix, "SELECT key FROM rows WHERE key >= ? ORDER BY key LIMIT ?"
        while True:
            page = [key for (key,) in self._connection().execute(query, (last, PAGE)).fetchall()]
            ours = [key for key in page if key.startswith(prefix)]
            if ours:
                yield ours
            if len(ours) < PAGE:
                return
            last, query = ours[-1], "SELECT key FROM rows WHERE key > ? ORDER BY key LIMIT ?"

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy of the store to `path`."""
        with closing(sqlite3.connect(path)) as target:
            self._connection().backup(target)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA mmap_size = 1073741824")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
        return connection

    def write_once(self) -> None:
        """Write without a journal from now on: for a file that is nobody's until it is whole."""
        self._connection().execute("PRAGMA journal_mode = OFF")
        self._connection().execute("PRAGMA synchronous = OFF")

    def follow_writes(self) -> None:
        """Use the write-ahead log from now on: for a file that is updated while it is read."""
        self._connection().execute("PRAGMA journal_mode = WAL")


def opened(address: str) -> SqliteEngine:
    """The engine of `sqlite:///absolute/path`."""
    return SqliteEngine(Path(address.removeprefix("sqlite://")))
