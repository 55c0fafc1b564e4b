"""JSON records, one object each, as columns: parsed a block at a time by DuckDB's JSON reader, which nothing in the bytes can crash.

A record that is no UTF-8, no JSON or no object is set apart, and so is one with a value of another JSON type than declared (a number in
quotes is text). Fields that nobody declared are ignored and counted. A field that is missing is null.
Does not know: streams or files; it is given blocks, or lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.spec import ColumnType
from bedplate.data.schema import INSTANT, SYSTEM, Batch, Fault, Parsed, Shape, decoded, infer_text, mask, parse_text, quarantined, split
from bedplate.data.streams.blocks import Block

_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")  # a leading underscore is ours
_QUOTED: tuple[ColumnType, ...] = ("string", "timestamp")


class JsonReader:
    """Turns records into batches. Holds a DuckDB connection without access to files or the network; for one thread."""

    def __init__(self) -> None:
        """Open the connection."""
        self._connection = duckdb.connect(config={"enable_external_access": "false", "python_enable_replacements": "false"})

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()

    def infer(self, records: pa.Array[Any]) -> dict[str, ColumnType]:
        """Columns and types from binary records, in the order in which fields are met; nested fields are left out."""
        _, _, objects = self._objects(records)
        first: dict[str, str] = {}
        for name in self._fields(objects):
            if _COLUMN.fullmatch(name):
                first.setdefault(name.lower(), name)  # Delta does not tell names apart by case
        names = list(first.values())
        columns = self._extract(objects, names, names)
        inferred: dict[str, ColumnType] = {}
        for name, cells in columns.items():
            if pc.any(pc.match_substring_regex(cells.given, r"^[\[{]")).as_py():
                continue
            quoted = pc.all(pc.starts_with(cells.given, '"')).as_py()
            kind = infer_text(cells.text if quoted else cells.given)
            inferred[name] = kind if not quoted or kind == "timestamp" else "string"
        return inferred

    def batch(self, shape: Shape, records: pa.Array[Any], system: pa.Table) -> Batch:
        """Binary records, with their system columns, as rows that fit `shape` and rows that do not."""
        faults, rows, objects = self._objects(records)
        quoted = [name for name, kind in shape.columns.items() if kind in _QUOTED]
        columns = self._extract(objects, list(shape.columns), quoted)
        parsed = {name: _parse(columns[name], kind) for name, kind in shape.columns.items()}
        theirs, kept = (system, records) if not faults else (system.take(rows), records.take(rows))
        fitting = split(shape, parsed, theirs, lambda chosen: [kept[row].as_py() or b"" for row in chosen])
        unreadable = quarantined(faults, system, [records[fault.row].as_py() or b"" for fault in faults])
        bad = pa.concat_tables([unreadable, fitting.bad]).sort_by("_offset") if faults else fitting.bad
        return Batch(fitting.good, bad, self._fields(objects))

    def _objects(self, records: pa.Array[Any]) -> tuple[list[Fault], pa.Array[Any], pa.Array[Any]]:
        """Faults of the records that are no JSON objects; the row numbers and the texts of those that are."""
        text, undecoded = decoded(records)
        query = "SELECT CASE WHEN json_valid(j) THEN json_type(j) ELSE 'INVALID' END AS kind FROM records"
        kinds = self._query(query, pa.table({"j": text}))["kind"]
        fine = mask(pc.equal(kinds, pa.scalar("OBJECT")))
        if fine.all():
            return [], pa.array(np.arange(len(records)), pa.int64()), text
        faults = []
        for row in np.flatnonzero(~fine).tolist():
            if undecoded is not None and undecoded[row]:
                faults.append(Fault(row, "not UTF-8", f"not UTF-8 (got {records[row].as_py()[:80]!r})"))
            else:
                problem = "not valid JSON" if kinds[row].as_py() == "INVALID" else "not a JSON object"
                faults.append(Fault(row, problem, f"{problem} (got {str(text[row])[:80]!r})"))
        rows = pa.array(np.flatnonzero(fine), pa.int64())
        return faults, rows, text.take(rows)

    def _extract(self, objects: pa.Array[Any], names: Sequence[str], quoted: Sequence[str]) -> dict[str, _Cells]:
        """For each field its JSON text and, for those in `quoted`, the text inside the quotes (else the JSON text again)."""
        if not names:
            return {}
        parts = [("given", json.dumps(dict.fromkeys(names, "JSON")))]
        if quoted:
            parts.append(("text", json.dumps(dict.fromkeys(quoted, "VARCHAR"))))
        select = ", ".join(f"json_transform(j, '{spec}') AS {part}" for part, spec in parts)
        found = self._query(f"SELECT {select} FROM records", pa.table({"j": objects}))  # noqa: S608 - names match _COLUMN or the spec's pattern
        given = _fields_of(found["given"])
        text = _fields_of(found["text"]) if quoted else {}
        return {name: _Cells(given[name], text.get(name, given[name])) for name in names}

    def _fields(self, objects: pa.Array[Any]) -> dict[str, int]:
        """How many of the objects have each field, in the order in which fields are met."""
        query = "SELECT json_keys(j) AS fields, count(*) AS objects FROM records GROUP BY 1 ORDER BY min(row)"
        table = pa.table({"j": objects, "row": pa.array(np.arange(len(objects)))})
        counts: dict[str, int] = {}
        for entry in self._query(query, table).to_pylist():
            for name in dict.fromkeys(entry["fields"]):
                counts[name] = counts.get(name, 0) + entry["objects"]
        return counts

    def _query(self, query: str, records: pa.Table) -> pa.Table:
        self._connection.register("records", records)
        try:
            found: pa.Table = self._connection.sql(query).to_arrow_table()
            return found
        finally:
            self._connection.unregister("records")


@dataclass(frozen=True)
class _Cells:
    """One field of a batch: the JSON text of its values, and the text inside the quotes where that was asked for."""

    given: pa.Array[Any]
    text: pa.Array[Any]


def _parse(cells: _Cells, kind: ColumnType) -> Parsed:
    if kind not in _QUOTED:
        return parse_text(cells.given, kind)
    parsed = parse_text(cells.text, kind)
    unquoted = mask(pc.invert(pc.starts_with(cells.given, '"')))
    if not unquoted.any():
        return Parsed(parsed.values, parsed.bad, cells.given)
    bad = unquoted if parsed.bad is None else parsed.bad | unquoted
    nothing = pa.nulls(len(parsed.values), parsed.values.type)
    return Parsed(pc.if_else(pa.array(bad), nothing, parsed.values), bad, cells.given)


def _fields_of(column: pa.ChunkedArray[Any]) -> dict[str, pa.Array[Any]]:
    names = [column.type.field(index).name for index in range(column.type.num_fields)]
    return {name: part.combine_chunks() for name, part in zip(names, column.flatten(), strict=True)}


def arrow_of(blocks: Iterable[Block]) -> tuple[pa.Array[Any], pa.Table]:
    """The records of blocks as one binary array, and their system columns."""
    parts, systems = [], []
    for block in blocks:
        lengths = np.frombuffer(block.lengths, dtype=np.uint32)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(block.payload)]
        parts.append(pa.Array.from_buffers(pa.binary(), len(lengths), buffers))
        first, count = block.first_offset, len(lengths)
        systems.append(system_columns(round(block.arrived_at_s * 1_000_000), block.partition, np.arange(first, first + count)))
    if not parts:
        return pa.array([], pa.binary()), SYSTEM.empty_table()
    return pa.concat_arrays(parts), pa.concat_tables(systems).combine_chunks()


def system_columns(arrived_at_us: int, partition: int, offsets: np.ndarray[Any, Any]) -> pa.Table:
    """System columns of rows that arrived together (microseconds since the epoch) in one partition."""
    count = len(offsets)
    arrived = pa.array(np.full(count, arrived_at_us, dtype=np.int64)).cast(INSTANT)
    return pa.Table.from_arrays(
        [arrived, pa.array(np.full(count, partition, dtype=np.int32)), pa.array(offsets, pa.int64())], schema=SYSTEM
    )
