"""CSV files: a header, then rows, in UTF-8.

An empty cell is null; so is NA, N/A, NaN, nan, NULL, null or None where no string is declared. Blanks around a value that is no string
are passed over. A row with another number of cells than the header is set apart as its text; of any other row that is set apart, its
cells are kept, written as CSV again. Blank lines are no rows.
Does not know: other formats (`sources`), tables or commits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType
from bedplate.data.records import system_columns
from bedplate.data.schema import Batch, Fault, Parsed, Shape, decoded, infer_text, need_columns, parse_text, quarantined, split

_BLOCK_BYTES = 8 << 20
_MISSING = pa.array(["NA", "N/A", "NaN", "nan", "NULL", "null", "None", ""])

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


def byte_stream(path: Path) -> pa.NativeFile:
    """The bytes of a file, decompressed as its ending says."""
    return pa.input_stream(str(path), compression="detect")


class CsvFile:
    """One CSV file."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path

    def infer(self) -> dict[str, ColumnType]:
        """Columns and types, from the first block of rows."""
        names = self._header()
        for block in self._blocks(names):
            return {name: infer_text(_cleaned(_texts(block.cells[name])[0])) for name in names}
        return dict.fromkeys(names, "string")

    def batches(self, shape: Shape, arrived_at_us: int) -> Iterator[Batch]:
        """All rows, in order. Raises DataError when the header lacks a declared column."""
        names = self._header()
        need_columns(shape, names, self._path.name)
        for block in self._blocks(names):
            parsed = {name: _parse(block.cells[name], kind) for name, kind in shape.columns.items()}
            system = system_columns(arrived_at_us, 0, block.numbers)
            fitting = split(shape, parsed, system, block.lines)
            uneven = quarantined(block.uneven, system_columns(arrived_at_us, 0, block.uneven_numbers), block.uneven_lines)
            bad = pa.concat_tables([fitting.bad, uneven]).sort_by("_offset")
            yield Batch(fitting.good, bad, dict.fromkeys(names, len(block.numbers)))

    def _header(self) -> list[str]:
        with byte_stream(self._path) as stream:
            lines = io.TextIOWrapper(cast(IO[bytes], stream), encoding="utf-8-sig", errors="surrogateescape", newline="")
            try:
                names = next(csv.reader(lines), [])
                "".join(names).encode()  # the rows behind the header may hold other bytes, which are their own matter
            except (UnicodeEncodeError, csv.Error) as error:
                fix = "save it as CSV in UTF-8"
                raise DataError("the header of a CSV file cannot be read", value=self._path.name, fix=fix) from error
        if not names or len(set(names)) < len(names) or not all(names):
            fix = f"correct the first line of {self._path.name}"
            raise DataError("a CSV file needs a header with a name of its own for each column", value=names, fix=fix)
        return names

    def _blocks(self, names: Sequence[str]) -> Iterator[_Block]:
        rows = _Numbering()
        empty = pa.table({name: pa.array([], pa.binary()) for name in names})
        with byte_stream(self._path) as stream:
            reader = pacsv.open_csv(
                cast(IO[bytes], stream),
                pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=rows.set_apart),
                pacsv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    null_values=[""],
                ),
            )
            for batch in reader:
                yield rows.block(pa.Table.from_batches([batch]))
        yield rows.block(empty)


@dataclass(frozen=True)
class _Block:
    """Cells as binary columns with the numbers of their rows, and the rows of a wrong length among and before them."""

    cells: pa.Table
    numbers: Numbers
    uneven: list[Fault]
    uneven_numbers: Numbers
    uneven_lines: list[bytes]

    def lines(self, rows: Sequence[int]) -> list[bytes]:
        """Chosen rows as CSV."""
        lines = []
        for row in rows:
            cells = [column[row].as_py() for column in self.cells.columns]
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="").writerow([(cell or b"").decode(errors="surrogateescape") for cell in cells])
            lines.append(text.getvalue().encode(errors="surrogateescape"))
        return lines


class _Numbering:
    """Numbers rows across blocks. The parser tells of a row of a wrong length, with its number, before it gives the rows behind it."""

    def __init__(self) -> None:
        self._uneven: list[pacsv.InvalidRow] = []
        self._next = 0

    def set_apart(self, row: pacsv.InvalidRow) -> Literal["skip"]:
        """The parser's callback."""
        self._uneven.append(row)
        return "skip"

    def block(self, cells: pa.Table) -> _Block:
        """The next rows of the right length with their numbers; with no rows, what is left of the others."""
        count = cells.num_rows
        uneven = np.array([(row.number or 0) - 2 for row in self._uneven], dtype=np.int64)  # the parser counts from 1, the header included
        candidates = np.arange(self._next, self._next + count + len(uneven))
        numbers = np.setdiff1d(candidates, uneven, assume_unique=True)[:count] if len(uneven) else candidates  # both are sorted
        self._next = int(numbers[-1]) + 1 if count else self._next
        passed = int(np.searchsorted(uneven, self._next)) if count else len(uneven)
        gone, self._uneven = self._uneven[:passed], self._uneven[passed:]
        problem = "a wrong number of cells"
        faults = [Fault(index, problem, f"{row.actual_columns} cells for {row.expected_columns} columns") for index, row in enumerate(gone)]
        return _Block(cells, numbers, faults, uneven[:passed], [_bytes_of(row.text) for row in gone])


def _bytes_of(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _texts(cells: pa.ChunkedArray[Any]) -> tuple[pa.Array[Any], np.ndarray[Any, Any] | None]:
    return decoded(cells.combine_chunks())


def _cleaned(text: pa.Array[Any]) -> pa.Array[Any]:
    trimmed = pc.utf8_trim_whitespace(text)
    cleaned: pa.Array[Any] = pc.if_else(pc.is_in(trimmed, value_set=_MISSING), pa.nulls(len(trimmed), pa.string()), trimmed)
    return cleaned


def _parse(cells: pa.ChunkedArray[Any], kind: ColumnType) -> Parsed:
    text, undecoded = _texts(cells)
    parsed = parse_text(text if kind == "string" else _cleaned(text), kind)
    if undecoded is None:
        return parsed
    bad = undecoded if parsed.bad is None else parsed.bad | undecoded
    return Parsed(parsed.values, bad, cells.combine_chunks())
