"""Rules about rows as predicates of SQL, and which rows of a batch break one that quarantines.

As in a CHECK constraint, null counts as true (but for `not_null`).
Does not know: tables, versions (`expectations`), or how rows are set apart (`schema`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import pyarrow as pa

from bedplate.core.spec import Expectation
from bedplate.data.expression import confined, explained, literal, quoted

Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


def set_apart(expect: Sequence[Expectation]) -> tuple[Expectation, ...]:
    """Those that put rows in quarantine."""
    return tuple(each for each in expect if each.otherwise == "quarantine")


def problem_of(expectation: Expectation) -> str:
    """The `problem` under which rows that break it lie in the quarantine."""
    return f"expected {expectation.label}"


def broken_rows(table: str, rows: pa.Table, expect: Sequence[Expectation]) -> Iterator[tuple[Expectation, Bools]]:
    """For each rule about rows, which rows of a batch break it. `_offset` must be another for each row.

    Raises DataError for a predicate that is wrong or that looks beyond its row.
    """
    offsets = rows["_offset"].to_numpy()
    with confined(rows) as connection:
        for each in expect:
            sql = f"SELECT _offset FROM stored WHERE {broken(each)}"  # noqa: S608 - a predicate of the user's own, in a confined engine
            with explaining(table, each, rows.schema.names):
                found = connection.sql(sql).to_arrow_table()
            yield each, np.isin(offsets, found["_offset"].to_numpy())


def broken(each: Expectation) -> str:
    """The condition of SQL that holds for rows which break a rule about rows."""
    return f"NOT coalesce((\n{_predicate(each)}\n), true)"


def explaining(table: str, each: Expectation, columns: Sequence[str]) -> AbstractContextManager[None]:
    """Raise DataError that names the expectation, for what DuckDB says of it."""
    return explained(f"expectation {each.label!r} of dataset {table!r}", each.sql or each.label, columns)


def _predicate(each: Expectation) -> str:
    if each.not_null:
        return " AND ".join(f"{quoted(column)} IS NOT NULL" for column in each.not_null)
    if each.range is not None:
        column = quoted(each.range.column)
        least = [] if each.range.min is None else [f"{column} >= {literal(each.range.min)}"]
        most = [] if each.range.max is None else [f"{column} <= {literal(each.range.max)}"]
        return " AND ".join([*least, *most])
    assert each.sql is not None  # the third rule about rows
    return each.sql
