"""Declared columns and values that must fit them: what fits becomes Arrow, what does not is set apart with its reason.

Rules, the same for every source:
    string     text
    int        a whole number within 64 bits; 3.0 is one, 3.5 is not; NaN is read as null
    float      a finite number; NaN is read as null, infinity does not fit
    bool       true or false
    timestamp  ISO 8601; without an offset it is UTC; digits beyond microseconds are cut off; a bare number does not fit
A value that is not there is null, and null fits everywhere but in a key.
Does not know: where values come from (`records`, `sources`) or where rows go (`ingest`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from bedplate.core.clock import instant
from bedplate.core.errors import DataError, nearest
from bedplate.core.spec import ColumnType, Expectation
from bedplate.data.row_rules import broken_rows, problem_of

INSTANT = pa.timestamp("us", tz="UTC")
ARROW: Mapping[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": INSTANT,
}
SYSTEM = pa.schema([("_arrived_at", INSTANT), ("_partition", pa.int32()), ("_offset", pa.int64())])
QUARANTINE = pa.schema([*SYSTEM, ("problem", pa.string()), ("reason", pa.string()), ("raw", pa.binary())])

Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_INSTANT = re.compile(r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?")
_SHOWN_CHARS = 80


@dataclass(frozen=True)
class Shape:
    """The columns that the rows of `table` must have, the ones among them that may not be null, and rules that each row must keep."""

    table: str
    columns: Mapping[str, ColumnType]
    key: tuple[str, ...] = ()
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Raise DataError for a key that is no column, a name that is ours, or names that differ in case only (Delta would mix them up)."""
        for name in self.key:
            if name not in self.columns:
                raise DataError(f"the key of {self.table!r} names no column", value=name, fix=nearest(name, self.columns))
        seen: dict[str, str] = {}
        for name in self.columns:
            if name in {*SYSTEM.names, "_known_at"}:
                fix = "rename it in the source and in `columns:`"
                raise DataError(f"a column of {self.table!r} has a reserved name", value=name, fix=fix)
            if name.lower() in seen:
                both = [seen[name.lower()], name]
                raise DataError(f"columns of {self.table!r} differ in case only", value=both, fix="rename one of them")
            seen[name.lower()] = name

    @property
    def arrow(self) -> pa.Schema:
        """The columns of the stored table, with the system's own at the end."""
        return pa.schema([*((name, ARROW[kind]) for name, kind in self.columns.items()), *SYSTEM])


@dataclass(frozen=True)
class Parsed:
    """One column of a batch: values of the declared type, null where `bad` is set; `given` is the text as it came. `bad` None: all fit."""

    values: pa.Array[Any]
    bad: Bools | None
    given: pa.Array[Any]


@dataclass(frozen=True)
class Fault:
    """Why row `row` of a batch does not fit: the `problem` without the value, to be counted, and the `reason` with it."""

    row: int
    problem: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Rows that fit, in the stored schema; rows that do not, in the quarantine's; in how many rows each field of the source was met."""

    good: pa.Table
    bad: pa.Table
    fields: Mapping[str, int] = field(default_factory=dict)


def decoded(values: pa.Array[Any]) -> tuple[pa.Array[Any], Bools | None]:
    """Binary values as text, null where they are not UTF-8; the second tells where that was, None for nowhere."""
    try:
        return pc.cast(values, pa.string()), None
    except pa.ArrowInvalid:
        texts = [_text_of(value) for value in values.to_pylist()]
        text = pa.array(texts, pa.string())
        return text, mask(pc.and_(text.is_null(), values.is_valid()))


def _text_of(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def parse_text(text: pa.Array[Any], kind: ColumnType) -> Parsed:
    """Values from a string array, null for null. The quick path reads whole columns; one that it cannot read is read value by value."""
    quick = _QUICK[kind](text)
    if quick is not None:
        return Parsed(quick, None, text)
    slow = _SLOW[kind]
    values: list[object] = []
    bad = np.zeros(len(text), dtype=np.bool_)
    for index, value in enumerate(text.to_pylist()):
        try:
            values.append(None if value is None else slow(value))
        except (ValueError, OverflowError):
            values.append(None)
            bad[index] = True
    return Parsed(pa.array(values, ARROW[kind]), bad, text)


def infer_text(text: pa.Array[Any]) -> ColumnType:
    """The narrowest type that all values of a string array fit: bool, int, float, timestamp, else string; string when all are null."""
    present = pc.drop_null(text)
    if len(present) == 0:
        return "string"
    if _all_match(present, _INT) and not _any(parse_text(present, "int").bad):
        return "int"
    for kind in ("bool", "float"):
        if not _any(parse_text(present, kind).bad):
            return kind
    if _all_match(present, _DATED) and not _any(parse_text(present, "timestamp").bad):
        return "timestamp"
    return "string"


def split(shape: Shape, parsed: Mapping[str, Parsed], system: pa.Table, raw: Callable[[Sequence[int]], list[bytes]]) -> Batch:
    """Rows of a batch that fit and rows that do not. `system` has their system columns and `raw` gives the bytes of chosen rows."""
    values = [parsed[name].values for name in shape.columns]
    good = pa.Table.from_arrays([*values, *system.columns], schema=shape.arrow)
    faults = _faults(shape, parsed, good)
    if faults:
        keep = np.ones(good.num_rows, dtype=np.bool_)
        keep[[fault.row for fault in faults]] = False
        good = good.filter(pa.array(keep))
    return Batch(good, quarantined(faults, system, raw([fault.row for fault in faults])))


def quarantined(faults: Sequence[Fault], system: pa.Table, raw: Sequence[bytes]) -> pa.Table:
    """The rows of the quarantine for these faults: `raw` has the bytes of each."""
    if not faults:
        return QUARANTINE.empty_table()
    theirs = system.take(pa.array([fault.row for fault in faults], pa.int64()))
    problems = pa.array([fault.problem for fault in faults], pa.string())
    reasons = pa.array([fault.reason for fault in faults], pa.string())
    return pa.Table.from_arrays([*theirs.columns, problems, reasons, pa.array(raw, pa.binary())], schema=QUARANTINE)


def _faults(shape: Shape, parsed: Mapping[str, Parsed], rows: pa.Table) -> list[Fault]:
    found: dict[int, Fault] = {}
    for name, kind in shape.columns.items():
        column = parsed[name]
        if column.bad is not None:
            for row in np.flatnonzero(column.bad).tolist():
                problem = f"{name}: not {_ARTICLE[kind]} {kind}"
                found.setdefault(row, Fault(row, problem, f"{problem} (got {_shown(column.given[row].as_py())})"))
        if name in shape.key and column.values.null_count:
            missing = mask(column.values.is_null())
            for row in np.flatnonzero(missing).tolist():
                found.setdefault(row, Fault(row, f"{name}: null in a key", f"{name}: null in a key"))
    for expectation, broken in broken_rows(shape.table, rows, shape.expect) if shape.expect else ():
        problem = problem_of(expectation)
        for row in np.flatnonzero(broken).tolist():
            values = ", ".join(_shown(rows[name][row].as_py()) for name in expectation.columns)
            found.setdefault(row, Fault(row, problem, f"{problem} (got {values})" if values else problem))
    return [found[row] for row in sorted(found)]


_ARTICLE: Mapping[ColumnType, str] = {"string": "a", "int": "an", "float": "a", "bool": "a", "timestamp": "a"}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def mask(flags: Any) -> Bools:
    """A boolean Arrow array as numpy, null as false."""
    return np.asarray(pc.fill_null(flags, False), dtype=np.bool_)


def _any(bad: Bools | None) -> bool:
    return bad is not None and bool(bad.any())


def _all_match(text: pa.Array[Any], pattern: re.Pattern[str]) -> bool:
    return bool(pc.all(pc.match_substring_regex(text, f"^({pattern.pattern})$")).as_py() is not False)


def _cast(text: pa.Array[Any], to: pa.DataType) -> pa.Array[Any] | None:
    try:
        return pc.cast(text, to)
    except pa.ArrowInvalid:
        return None


def _quick_int(text: pa.Array[Any]) -> pa.Array[Any] | None:
    return _cast(text, pa.int64()) if _all_match(text, _INT) else None


def _quick_float(text: pa.Array[Any]) -> pa.Array[Any] | None:
    values = _cast(text, pa.float64()) if _all_match(text, _FLOAT) else None
    return values if values is not None and pc.all(pc.is_finite(values)).as_py() is not False else None


def _quick_bool(text: pa.Array[Any]) -> pa.Array[Any] | None:
    true, false = pc.equal(text, pa.scalar("true")), pc.equal(text, pa.scalar("false"))
    return true if pc.all(pc.or_(true, false)).as_py() is not False else None


def _quick_timestamp(text: pa.Array[Any]) -> pa.Array[Any] | None:
    return _cast(text, INSTANT) if _all_match(text, _INSTANT) else None


def _slow_int(text: str) -> int | None:
    if _INT.fullmatch(text):
        value = int(text)
    else:
        number = _slow_float(text)
        if number is None:
            return None
        if number != math.floor(number) or abs(number) >= 2**53:  # from there on a float may stand for several whole numbers
            raise ValueError(text)
        value = int(number)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _slow_float(text: str) -> float | None:
    if text.lower() == "nan":
        return None
    if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _slow_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _slow_timestamp(text: str) -> object:
    if not _DATED.fullmatch(text):
        raise ValueError(text)
    return instant(text)


_QUICK: Mapping[ColumnType, Callable[[pa.Array[Any]], pa.Array[Any] | None]] = {
    "string": lambda text: text,
    "int": _quick_int,
    "float": _quick_float,
    "bool": _quick_bool,
    "timestamp": _quick_timestamp,
}
_SLOW: Mapping[ColumnType, Callable[[str], object]] = {
    "string": str,
    "int": _slow_int,
    "float": _slow_float,
    "bool": _slow_bool,
    "timestamp": _slow_timestamp,
}


def need_columns(shape: Shape, present: Iterable[str], source: str) -> None:
    """Raise DataError for a declared column that `source` does not have."""
    known = list(present)
    for name in shape.columns:
        if name not in known:
            raise DataError(f"table {shape.table!r} declares a column that {source} does not have", value=name, fix=nearest(name, known))


def declared_type(kind: pa.DataType) -> ColumnType | None:
    """The type of a declared column that holds what an Arrow type holds; None for a nested or binary one."""
    if pat.is_dictionary(kind):
        return declared_type(kind.value_type)
    if pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind):
        return "string"
    if pat.is_integer(kind):
        return "int"
    if pat.is_floating(kind) or pat.is_decimal(kind):
        return "float"
    if pat.is_boolean(kind):
        return "bool"
    return "timestamp" if pat.is_timestamp(kind) or pat.is_date(kind) else None
