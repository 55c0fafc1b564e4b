"""A version of a table as one file that other tools read: Parquet, CSV or Arrow, by the file's ending.

Rows come in the order of their source, and larger tables than memory holds are sorted on disk.
Does not know: how a version is named, or derived columns: a file holds the stored ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from bedplate.core.atomic import replacing
from bedplate.core.errors import DataError
from bedplate.data.lake import Table
from bedplate.data.schema import SYSTEM

_BATCH_ROWS = 1 << 17
FORMATS: Mapping[str, Callable[[IO[bytes], pa.Schema], Any]] = {
    ".parquet": lambda file, schema: pq.ParquetWriter(file, schema, compression="zstd"),
    ".csv": lambda file, schema: pacsv.CSVWriter(file, schema),
    ".arrow": lambda file, schema: pa.ipc.new_file(cast("Any", file), schema),
}


def check_out(table: Table, path: Path) -> int:
    """Write the rows of a table's handle to `path`, whole or not at all; returns how many there are.

    Raises DataError for an ending that names no format, and for a column that the format cannot hold.
    """
    writer_of = FORMATS.get(path.suffix)
    if writer_of is None:
        raise DataError("the file's ending names no format", value=path.name, fix=f"end it in {', '.join(FORMATS)}")
    columns = [name for name in table.schema.names if name not in SYSTEM.names]
    schema = pa.schema([table.schema.field(name) for name in columns])
    listed = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    with tempfile.TemporaryDirectory(prefix="bedplate-checkout-") as spill:
        connection = duckdb.connect(config={"python_enable_replacements": "false", "temp_directory": spill})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("stored", table.reading(list(table.files())))
            query = f"SELECT {listed} FROM stored ORDER BY _partition, _offset"  # noqa: S608 - quoted names
            with replacing(path) as file:
                return _write(connection.sql(query).to_arrow_reader(_BATCH_ROWS), writer_of, file, schema)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path.suffix} cannot hold a column", value=str(error), fix="write .parquet") from error
        finally:
            connection.close()


def _write(rows: pa.RecordBatchReader, writer_of: Callable[[IO[bytes], pa.Schema], Any], file: IO[bytes], schema: pa.Schema) -> int:
    written = 0
    with writer_of(file, schema) as writer:
        for batch in rows:
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
            written += batch.num_rows
    return written
