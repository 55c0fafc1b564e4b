"""What an online store needs of a database: bytes by key, read many at once, and committed all or none if one row is still as it was.

A key is any bytes. The guard is the row that every writer changes (how far a stream was applied): as it is compared in the transaction
that writes, two writers never apply the same events, and a reader never sees half of a commit.
Does not know: what is in a row (`layout`), or which databases there are (`open`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol


class OnlineEngine(Protocol):
    """Rows of bytes by key. One instance is used by any number of threads."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows in order of `keys`, None where there is none: one round trip, one moment."""

    def commit(self, guard: bytes, expected: bytes | None, puts: Mapping[bytes, bytes], drops: Collection[bytes]) -> bool:
        """Write `puts` and delete `drops`, all or none, durably as far as the database is.

        Nothing is written, and the answer is False, when the row `guard` is not `expected` any more.
        """

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Write many rows, quickly; a reader may see some of them. For rows that nobody reads yet."""

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """All keys that start with `prefix`, in pages; a key that is written meanwhile may be left out."""

    def close(self) -> None:
        """Close all connections. The engine cannot be used after."""
