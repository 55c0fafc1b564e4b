"""Expressions that a user writes, in DuckDB's SQL over the columns of a row: where they run, and what to say when one is wrong.

They run in memory, in UTC, without files, network or the interpreter's variables. `stored` is the table that they are about.
Does not know: what an expression is for (`cut` derives columns, `expectations` checks rows).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from bedplate.core.errors import DataError, nearest


@contextmanager
def confined(stored: pa.Table | pads.Dataset) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees `stored` and nothing else; closed at the end."""
    connection = duckdb.connect(config={"enable_external_access": "false", "python_enable_replacements": "false"})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("stored", stored)
        yield connection
    finally:
        connection.close()


@contextmanager
def explained(where: str, expression: str, columns: Sequence[str]) -> Iterator[None]:
    """Raise DataError for what DuckDB says of an expression: `where` it stands, its text, the nearest of `columns` for an unknown one."""
    try:
        yield
    except duckdb.Error as error:
        raise DataError(f"{where}: {str(error).splitlines()[0]}", value=expression, fix=_fix(str(error), columns)) from error


def quoted(column: str) -> str:
    """A column's name as SQL."""
    return '"' + column.replace('"', '""') + '"'


def literal(value: float | str) -> str:
    """A number or a text as SQL. A text beside a timestamp is read as one."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _fix(message: str, columns: Sequence[str]) -> str:
    unknown = re.search(r'Referenced column "([^"]+)" not found', message)
    return nearest(unknown.group(1), columns) if unknown else "correct the expression: it is SQL as DuckDB reads it"
