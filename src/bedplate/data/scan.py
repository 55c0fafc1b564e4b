"""Columns of a dataset on disk, each read into one piece of memory while the next batches are decoded.

A table that Arrow reads is in pieces, and to put a column together is to have it twice for a while and to touch fresh memory, which
costs more than to decode it. Nor are the files' bytes read ahead, which would be held beside what is decoded from them.
Does not know: what the columns mean, or their order beyond that of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from bedplate.data.threads import cores

_OPTIONS = pads.ParquetFragmentScanOptions(pre_buffer=False)
_BATCH_ROWS = 1 << 17
_BATCHES_AHEAD = 4


def read(dataset: pads.Dataset, columns: Sequence[str], filter: pc.Expression | None = None) -> pa.Table:
    """The named columns of a dataset of Parquet files; with a filter only its rows, in the pieces they come in. Columns must be there."""
    if filter is not None:
        return dataset.to_table(columns=list(columns), filter=filter, fragment_scan_options=_OPTIONS)
    rows = dataset.count_rows()
    schema = pa.schema([dataset.schema.field(name) for name in columns])
    filling = [_Column(field.type, rows) for field in schema]
    scanner = dataset.scanner(
        columns=list(columns),
        batch_size=_BATCH_ROWS,
        batch_readahead=_BATCHES_AHEAD,
        fragment_readahead=2,
        fragment_scan_options=_OPTIONS,
    )
    with ThreadPoolExecutor(cores()) as pool:  # to touch fresh memory takes as long as to decode what is put there
        for batch in scanner.to_batches():
            list(pool.map(_Column.add, filling, batch.columns))
    return pa.Table.from_arrays([column.whole() for column in filling], schema=schema)


class _Column:
    """A column that is being read: numbers and times in one piece until a null comes, all else in the pieces it came in."""

    def __init__(self, kind: pa.DataType, rows: int) -> None:
        self._kind = kind
        self._raw: Any = pa.int64() if pa.types.is_primitive(kind) and kind.bit_width == 64 else None
        self._filled = 0
        self._values = np.empty(rows if self._raw else 0, np.int64)
        self._pieces: list[pa.Array[Any]] = []

    def add(self, values: pa.Array[Any]) -> None:
        if self._raw and not self._pieces and not values.null_count:
            self._values[self._filled : self._filled + len(values)] = values.view(self._raw).to_numpy()
            self._filled += len(values)
        else:
            self._pieces.append(values)

    def whole(self) -> pa.ChunkedArray[Any]:
        """What was added."""
        raw: Any = self._values[: self._filled]  # numpy's arrays are buffers, whatever Arrow's types say
        whole = [pa.Array.from_buffers(self._kind, self._filled, [None, pa.py_buffer(raw)])] if self._filled else []
        made: pa.ChunkedArray[Any] = pa.chunked_array([*whole, *self._pieces], self._kind)  # type: ignore[call-overload] # of any type
        return made
