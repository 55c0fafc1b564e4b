"""Files of a feature view: Arrow tables as they are, or columns gathered by row, which are written batch by batch and never held whole.

Equal content is equal bytes, whatever pieces it came in. Does not know: what the columns mean, or in which order the rows are wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bedplate.core.atomic import replacing
from bedplate.core.digest import digest_file
from bedplate.data.keys import Ints, one_piece
from bedplate.data.threads import cores

BATCH_ROWS = 1 << 18


@dataclass(frozen=True)
class Gathered:
    """Columns at some rows of theirs, by name."""

    columns: Mapping[str, pa.Array[Any]]
    rows: Ints

    @property
    def schema(self) -> pa.Schema:
        """The columns with their types."""
        return pa.schema([(name, values.type) for name, values in self.columns.items()])

    def batch(self, first: int) -> pa.RecordBatch:
        """The rows from the place `first` on, BATCH_ROWS at most."""
        places: Any = pa.array(self.rows[first : first + BATCH_ROWS])
        return pa.record_batch([values.take(places) for values in self.columns.values()], schema=self.schema)


def write(path: Path, content: pa.Table | Gathered) -> str:
    """Write a table in one batch, or what is gathered in many, atomically; returns the file's digest."""
    with replacing(path) as file, pa.ipc.new_file(file, content.schema) as writer:
        if isinstance(content, Gathered):
            for batch in _ahead(content.batch, range(0, len(content.rows), BATCH_ROWS)):
                writer.write_batch(batch)
        else:
            pieces = [one_piece(column) for column in content.columns]
            writer.write_batch(pa.record_batch(pieces, schema=content.schema))
    return digest_file(path)


def _ahead(work: Callable[[int], pa.RecordBatch], parts: Iterable[int]) -> Iterator[pa.RecordBatch]:
    """`work` of each part in order, done in threads while the ones before are consumed."""
    with ThreadPoolExecutor(cores()) as pool:
        doing: deque[Future[pa.RecordBatch]] = deque()
        for part in parts:
            doing.append(pool.submit(work, part))
            if len(doing) > cores():
                yield doing.popleft().result()
        while doing:
            yield doing.popleft().result()
