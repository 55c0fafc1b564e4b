"""Text files as rows: a pattern such as `text/**/*.py` names them, and each is one row (path, text), in the order of their paths.

`path` is relative to the folder before the first wildcard and has `/` between its parts. A file that is not UTF-8 goes to the quarantine
with the place of the first byte that is wrong. `_offset` is the number of the file.
Does not know: tables or commits, or what a document is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from bedplate.core.spec import ColumnType
from bedplate.data.pattern import matching
from bedplate.data.records import system_columns
from bedplate.data.schema import Batch, Fault, Parsed, Shape, need_columns, quarantined, split

COLUMNS: dict[str, ColumnType] = {"path": "string", "text": "string"}
_FILES = 1000
_SHOWN_BYTES = 16


class TextFiles:
    """The files that a pattern matches now."""

    def __init__(self, pattern: Path) -> None:
        """Nothing is read yet."""
        self._pattern = pattern

    def infer(self) -> dict[str, ColumnType]:
        """Columns and types: always the same two."""
        return dict(COLUMNS)

    def batches(self, shape: Shape, arrived_at_us: int) -> Iterator[Batch]:
        """All files. Raises DataError when the declaration has other columns than these."""
        need_columns(shape, COLUMNS, self._pattern.name)
        base, names = matching(self._pattern)
        for first in range(0, len(names), _FILES):
            yield _batch(shape, base, names[first : first + _FILES], first, arrived_at_us)


def _batch(shape: Shape, base: Path, names: Sequence[str], first: int, arrived_at_us: int) -> Batch:
    contents = [(base / name).read_bytes() for name in names]
    texts: list[str] = []
    faults: list[Fault] = []
    for row, (name, content) in enumerate(zip(names, contents, strict=True)):
        try:
            texts.append(content.decode())
        except UnicodeDecodeError as error:
            wrong = content[error.start : error.start + _SHOWN_BYTES]
            faults.append(Fault(row, "not UTF-8", f"not UTF-8: {name} has {wrong!r} at byte {error.start}"))
    system = system_columns(arrived_at_us, 0, np.arange(first, first + len(names)))
    bad = quarantined(faults, system, [contents[fault.row] for fault in faults])
    unread = {fault.row for fault in faults}
    rows = [row for row in range(len(names)) if row not in unread]
    columns = {"path": [names[row] for row in rows], "text": texts}
    parsed = {column: Parsed(pa.array(columns[column], pa.string()), None, pa.array(columns[column])) for column in shape.columns}
    fitting = split(shape, parsed, system.take(pa.array(rows, pa.int64())), lambda chosen: [contents[rows[row]] for row in chosen])
    return Batch(fitting.good, pa.concat_tables([bad, fitting.bad]).sort_by("_offset"), dict.fromkeys(COLUMNS, len(names)))
