"""A target: a table that holds what was read of one source, and how far it was read, exactly once.

What a table holds is named by the digest of its source (which stream or file, under which declaration). When that changes, the rows are
replaced and reading begins anew: a new epoch. The marks, as Delta application transactions, are

    epoch                            the number of the current epoch
    EPOCH:SOURCE                     1: epoch number EPOCH holds SOURCE
    EPOCH:SOURCE:TOPIC:PARTITION     the offset of the next record of the partition

A mark with its epoch in its name can never be taken for that of an earlier time when the same source was held.
Does not know: how records become rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pyarrow as pa

from bedplate.core.errors import Busy
from bedplate.data.lake import Table, Write

_EPOCH = "epoch"


def epoch_of(table: Table) -> int:
    """The number of the table's epoch, as of the handle's version: while it stays, rows are only added."""
    return table.recorded(_EPOCH) or 0


class Target:
    """One table as the target of the source that `source` digests."""

    def __init__(self, table: Table, source: str, topic: str) -> None:
        """Nothing is written yet."""
        self.table = table
        self._source = source
        self._topic = topic
        self._joined: int | None = None

    @property
    def current(self) -> bool:
        """Whether the table holds this source, as of the handle's version."""
        return self.table.recorded(f"{self._epoch}:{self._source}") is not None

    def offset(self, partition: int) -> int:
        """The offset of the next record to read, as of the handle's version; 0 when the table holds another source."""
        return self.table.recorded(self._mark(self._epoch, partition)) or 0

    def replace(self, rows: Callable[[], pa.Table | pa.RecordBatchReader], ends: Mapping[int, int]) -> None:
        """Begin a new epoch with these rows, read up to the offsets `ends` of their partitions, in one commit.

        Nothing when the table holds the source already.
        """
        self.table.write(lambda: None if self.current else self._beginning(rows(), ends))
        self._joined = self._epoch

    def append(self, rows_from: Callable[[Mapping[int, int]], pa.Table], ends: Mapping[int, int]) -> None:
        """Add, in one commit, the rows that lie before the offsets `ends` of their partitions and are not yet there.

        `rows_from` gives those from an offset of each partition on. Raises Busy when another process replaced the table, or rolled it
        back, meanwhile: what was read is not what comes next.
        """
        self.table.write(lambda: self._addition(rows_from, ends))

    def restore(self, version: int, partitions: Collection[int], once: str) -> None:
        """Begin a new epoch with what the table held at `version`, in one commit; nothing when the mark `once` says that it was done, or
        when that is the newest version.

        Where it held this source then, it counts as read as far as it was then; else as not read at all.
        """
        self.table.restore(version, lambda: self._restored(version, partitions, once))

    @property
    def _epoch(self) -> int:
        return epoch_of(self.table)

    def _mark(self, epoch: int, partition: int) -> str:
        return f"{epoch}:{self._source}:{self._topic}:{partition}"

    def _beginning(self, rows: pa.Table | pa.RecordBatchReader, ends: Mapping[int, int]) -> Write:
        epoch = self._epoch + 1
        marks = {_EPOCH: epoch, f"{epoch}:{self._source}": 1, **{self._mark(epoch, partition): end for partition, end in ends.items()}}
        return Write(rows, marks, ends, replace=True)

    def _addition(self, rows_from: Callable[[Mapping[int, int]], pa.Table], ends: Mapping[int, int]) -> Write | None:
        if not self.current or self._joined not in (None, self._epoch):
            fix = "end the other ingestion, or give both the same declaration"
            raise Busy("another process replaced the table while this one wrote to it", value=self.table.name, fix=fix)
        starts = {partition: self.offset(partition) for partition in ends}
        ahead = {partition: end for partition, end in ends.items() if end > starts[partition]}
        if not ahead:
            return None
        return Write(rows_from(starts), {self._mark(self._epoch, partition): end for partition, end in ahead.items()}, ahead)

    def _restored(self, version: int, partitions: Collection[int], once: str) -> tuple[dict[str, int], dict[int, int]] | None:
        if self.table.recorded(once) is not None or self.table.version == version:
            return None
        then = Target(self.table.at(version), self._source, self._topic)
        epoch, offsets = self._epoch + 1, {partition: then.offset(partition) for partition in partitions}
        marks = {_EPOCH: epoch, once: 1}
        if then.current:
            marks |= {f"{epoch}:{self._source}": 1, **{self._mark(epoch, partition): offset for partition, offset in offsets.items()}}
        return marks, offsets
