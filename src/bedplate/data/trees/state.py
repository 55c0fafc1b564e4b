"""What was hashed before: a digest is good while size, time of change and inode of its file are what they were.

SQLite: 20,000 rows are read in some 20 ms, writers wait for one another, a kill loses what was not committed. It may be deleted.
Does not know: what a path stands for.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bedplate.core.errors import DataError

CLOCK_TICK_NS = 20_000_000  # a file changed twice within a tick of the kernel's clock looks unchanged: so young a file is hashed again
_SCHEMA = """
create table if not exists seen (path text primary key, inode integer, mtime_ns integer, size_bytes integer, md5 text) without rowid;
create table if not exists kept (md5 text primary key, inode integer, mtime_ns integer, size_bytes integer) without rowid;
"""

_BELOW = "select path, inode, mtime_ns, size_bytes, md5 from seen where path = ? or (path >= ? and path < ?)"  # "0" follows "/"


class Stamp(NamedTuple):
    """By what a file is recognized."""

    inode: int
    mtime_ns: int
    size_bytes: int


def stamp(found: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


class State:
    """The database. `seen` speaks of files of the project, `kept` of objects of the cache."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._rows = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._rows.execute("pragma journal_mode=wal")
            self._rows.execute("pragma synchronous=off")  # after a power cut the digests are taken again
            self._rows.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise DataError(f"the notes about hashed files are damaged: {error}", value=str(path), fix="delete the file") from error

    def seen(self, tree: str) -> dict[str, tuple[Stamp, str]]:
        """Stamp and MD5 of the file `tree`, and of all below it, by path from the root."""
        rows = self._rows.execute(_BELOW, (tree, f"{tree}/", f"{tree}0"))
        return {path: (Stamp(*rest), md5) for path, *rest, md5 in rows}

    def kept(self, wanted: Iterable[str]) -> dict[str, Stamp]:
        """The stamps of objects when they were known to be good."""
        names = set(wanted)
        if len(names) > 500:
            rows = self._rows.execute("select * from kept").fetchall()
        else:
            rows = [row for name in names for row in self._rows.execute("select * from kept where md5 = ?", (name,))]
        return {md5: Stamp(*rest) for md5, *rest in rows if md5 in names}

    def note(self, seen: Mapping[str, tuple[Stamp, str]], kept: Mapping[str, Stamp], as_of_ns: int) -> None:
        """Remember stamps of files that were read after that moment; one that had changed only just before it is left out."""
        young = as_of_ns - CLOCK_TICK_NS
        files = [(path, *each, md5) for path, (each, md5) in seen.items() if each.mtime_ns < young]
        objects = [(md5, *each) for md5, each in kept.items() if each.mtime_ns < young]
        self._rows.execute("begin immediate")
        self._rows.executemany("insert or replace into seen values (?, ?, ?, ?, ?)", files)
        self._rows.executemany("insert or replace into kept values (?, ?, ?, ?)", objects)
        self._rows.execute("commit")

    def close(self) -> None:
        """Release the file."""
        self._rows.close()
