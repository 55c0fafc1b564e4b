"""Keys and entities: tuples of columns as dense integer codes, to group and to look up, and as canonical JSON text, to store.

A tuple in which any column is null is no key: its code is -1 and it equals nothing, itself included.
Does not know: what is grouped by them, or when anything was known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.errors import DataError, nearest
from bedplate.core.spec import ColumnType
from bedplate.data.threads import blocks, in_threads, stretches

KNOWN_AT, PARTITION, OFFSET = "_known_at", "_partition", "_offset"
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_MICROSECONDS = pa.timestamp("us", tz="UTC")
_MOST_CODES = 2**62


def column(table: pa.Table, name: str, owner: str) -> pa.Array[Any]:
    """One column as one array of a plain type: string, int64, float64, bool or timestamp[us, UTC].

    `owner` names the table in errors. Raises DataError when it has no such column, or one of another type.
    """
    if name not in table.column_names:
        declared = [known for known in table.column_names if not known.startswith("_")]
        raise DataError(f"{owner} has no such column", value=name, fix=nearest(name, declared))
    array: Any = one_piece(table.column(name))
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    plain: pa.Array[Any] = array.cast(ARROW_TYPES[column_type(array.type, f"{owner}.{name}")])
    return plain


def one_piece(values: pa.ChunkedArray[Any]) -> Any:
    """A column as one array: itself, where it is in one piece, which Arrow would copy."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def filled(array: Any, value: Any) -> npt.NDArray[Any]:
    """The values with another for null: themselves, where nothing is null, which Arrow would copy."""
    values: npt.NDArray[Any] = (array.fill_null(value) if array.null_count else array).to_numpy(zero_copy_only=False)
    return values


def column_type(arrow: pa.DataType, owner: str) -> ColumnType:
    """The declared type that an Arrow type stands for. Raises DataError for one that a dataset cannot have."""
    for test, name in _TYPES:
        if test(arrow):
            return name
    raise DataError(f"{owner} has a type that features cannot hold", value=str(arrow), fix="use string, int, float, bool or timestamp")


def microseconds(array: pa.Array[Any], owner: str) -> tuple[Ints, Bools]:
    """Timestamps as int64 microseconds since the epoch, UTC (0 where null), and where they are not null. Raises DataError for others."""
    if not pa.types.is_timestamp(array.type):
        raise DataError(f"{owner} is no time", value=str(array.type), fix="declare it as timestamp")
    return filled(array.cast(_MICROSECONDS).cast(pa.int64()), 0), validity(array)


def validity(array: pa.Array[Any]) -> Bools:
    """True where a value is not null, shape [rows]."""
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False)) if array.null_count else np.ones(len(array), bool)


def encode(table: pa.Table, names: Sequence[str], owner: str) -> tuple[Ints, pa.Table]:
    """Codes [rows] of the tuples of the named columns, and the distinct tuples in order of code, which is their sorted order.

    Raises DataError for an unknown column, or a float: equality of floats would be a matter of rounding.
    """
    codes, present = np.zeros(table.num_rows, np.int64), np.ones(table.num_rows, bool)
    columns = [_key_column(table, name, owner) for name in names]
    for array in columns:
        present &= validity(array)
        codes = _fold(codes, *_ranked(array))
    first, inverse = _distinct(codes if present.all() else np.where(present, codes, -1))
    return inverse, pa.table(dict(zip(names, columns, strict=True))).take(first)


def _distinct(codes: Ints) -> tuple[Ints, Ints]:
    """A row of each code in order of code, and for each row the place of its code there (-1 where it is -1)."""
    bound = int(codes.max(initial=-1)) + 1
    if bound > 4 * len(codes) + 1024:
        rows = np.flatnonzero(codes >= 0)
        _, first, inverse = np.unique(codes[rows], return_index=True, return_inverse=True)
        result = np.full(len(codes), -1, np.int64)
        result[rows] = inverse
        return rows[first], result
    row = np.full(bound + 1, -1, np.int64)  # codes are dense: no sort is needed; the last place is that of -1
    for part in blocks(len(codes)):
        row[codes[part]] = np.arange(part.start, part.stop)
    there = row[:bound] >= 0
    if there.all():
        return row[:bound], codes
    place = np.append(np.where(there, np.cumsum(there) - 1, -1), -1)
    return row[:bound][there], place[codes]


def lookup(distinct: pa.Table, table: pa.Table, owner: str) -> tuple[Ints, Bools]:
    """Codes [rows] of the rows of `table` among `distinct` (as `encode` made it), -1 for unknown ones, and where no column is null.

    Raises DataError for a column that `table` lacks or has with another type.
    """
    pairs = [
        _same_type(one_piece(distinct.column(name)), _key_column(table, name, owner), f"{owner}.{name}") for name in distinct.column_names
    ]
    if len(pairs) == 1:  # each value is a tuple
        return _found(*pairs[0]), validity(pairs[0][1])
    known, codes = np.zeros(distinct.num_rows, np.int64), np.zeros(table.num_rows, np.int64)
    found, present = np.ones(table.num_rows, bool), np.ones(table.num_rows, bool)
    for theirs, ours in pairs:
        values = theirs.unique()
        places = _found(values, ours)
        present &= validity(ours)
        found &= places >= 0
        theirs_places = pc.index_in(theirs, values).to_numpy(zero_copy_only=False)
        if len(values) and int(known.max(initial=0)) >= _MOST_CODES // len(values):
            known, codes, found = _compress(known, codes, found)
        known = known * len(values) + theirs_places
        codes = codes * len(values) + np.maximum(places, 0)
    order = np.argsort(known)
    if not len(order):
        return np.full(table.num_rows, -1, np.int64), present
    place = np.minimum(np.searchsorted(known, codes, sorter=order), len(order) - 1)
    matches = found & (known[order[place]] == codes)
    return np.where(matches, order[place], -1), present


def texts(table: pa.Table) -> pa.Array[Any]:
    """Each row as canonical JSON, a list of its values in order of columns: timestamps as microseconds, NaN as null."""
    join: Any = pc.binary_join_element_wise
    joined: pa.Array[Any] = join(
        "[", join(*(_column_texts(table.column(name).combine_chunks()) for name in table.column_names), ","), "]", ""
    )
    return joined


def text(values: Sequence[Any]) -> str:
    """The text of one row, as `texts` writes it. `values` are str, int, float, bool or None; timestamps are given as microseconds."""
    return json.dumps(list(values), separators=(",", ":"), ensure_ascii=False)


def _key_column(table: pa.Table, name: str, owner: str) -> pa.Array[Any]:
    array = column(table, name, owner)
    if pa.types.is_floating(array.type):
        raise DataError("a float can be no part of a key or entity", value=f"{owner}.{name}", fix="declare it as int or string")
    return array


def _same_type(theirs: pa.Array[Any], ours: pa.Array[Any], owner: str) -> tuple[pa.Array[Any], pa.Array[Any]]:
    if ours.type != theirs.type and ours.null_count < len(ours):
        raise DataError(f"{owner} has another type than the feature's", value=str(ours.type), fix=f"declare it as {theirs.type}")
    return theirs, ours.cast(theirs.type)


def _found(values: pa.Array[Any], asked: Any) -> Ints:
    """The place of each value among `values`, which are distinct and not null; -1 for others."""
    if pa.types.is_integer(values.type) and len(values):
        least, most = (int(bound.as_py()) for bound in pc.min_max(values).values())
        if most - least <= 2 * len(values):
            return _at_places(values.to_numpy(), asked, least, most)
    parts = in_threads(lambda rows: pc.index_in(asked[rows], values).fill_null(-1), stretches(len(asked)))
    found: Ints = pa.concat_arrays(parts).to_numpy().astype(np.int64)
    return found


def _at_places(values: Ints, asked: Any, least: int, most: int) -> Ints:
    """As `_found`, for whole numbers that lie close together: read off a table, in a fifth of the time of hashing them."""
    place = np.full(most - least + 2, -1, np.int64)
    place[values - least] = np.arange(len(values))
    numbers = filled(asked, most)
    found = np.empty(len(numbers), np.int64)

    def read(rows: slice) -> None:
        part = numbers[rows]
        np.take(place, np.where((part >= least) & (part <= most), part - least, most - least + 1), out=found[rows], mode="clip")

    in_threads(read, blocks(len(numbers)))
    return np.where(validity(asked), found, -1) if asked.null_count else found


def _ranked(array: pa.Array[Any]) -> tuple[Ints, int]:
    """For each value its place in an order of values, any place for a null, and how many places there are."""
    if pa.types.is_integer(array.type) and array.null_count < len(array):
        bounds: Any = pc.min_max(array)
        least, most = bounds["min"].as_py(), bounds["max"].as_py()
        if most - least <= 2 * len(array):  # such numbers are places themselves
            numbers = filled(array, least)
            return (numbers - least if least else numbers), most - least + 1
    parts = in_threads(lambda rows: array[rows].dictionary_encode(), stretches(len(array)))
    words: Any = pa.concat_arrays([part.dictionary for part in parts]).dictionary_encode()
    rank = np.zeros(len(words.dictionary), np.int64)
    rank[pc.sort_indices(words.dictionary).to_numpy(zero_copy_only=False)] = np.arange(len(rank))
    ranked: list[Ints] = []
    begin = 0
    for part in parts:  # whose words are the next of all
        its = np.append(
            rank[words.indices[begin : begin + len(part.dictionary)].to_numpy(zero_copy_only=False)], 0
        )  # and a place for nulls
        ranked.append(its[filled(part.indices, len(its) - 1)])
        begin += len(part.dictionary)
    return np.concatenate(ranked), len(rank)


def _fold(codes: Ints, next_codes: Ints, count: int) -> Ints:
    if not codes.any():
        return next_codes
    if count and int(codes.max(initial=0)) >= _MOST_CODES // count:
        codes = np.unique(codes, return_inverse=True)[1]
    return codes * max(count, 1) + next_codes


def _compress(known: Ints, codes: Ints, found: Bools) -> tuple[Ints, Ints, Bools]:
    values, dense = np.unique(known, return_inverse=True)
    place = np.minimum(np.searchsorted(values, codes), len(values) - 1)
    return dense, place, found & (values[place] == codes)


def _column_texts(array: pa.Array[Any]) -> pa.Array[Any]:
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    if pa.types.is_integer(array.type) or pa.types.is_boolean(array.type):
        return array.cast(pa.string()).fill_null("null")
    encoded = array.dictionary_encode()
    written = [_json(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(written, pa.string()).take(encoded.indices).fill_null("null")


def _json(value: object) -> str:
    return "null" if value != value else json.dumps(value, ensure_ascii=False)  # only NaN differs from itself


_TYPES: tuple[tuple[Any, ColumnType], ...] = (
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind), "string"),
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
    (pa.types.is_timestamp, "timestamp"),
)
ARROW_TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "timestamp": _MICROSECONDS}
