"""One reader of Delta tables, in an environment of its own: `python lake_readers_peer.py ENGINE URI VERSION` prints rows and digest.

The digest is over all rows of the columns (id, at, name, amount), ordered by id: SHA-256 of what `canonical` makes of them.
Does not know: who wrote the table.
"""

import hashlib
import json
import os
import sys

COLUMNS = ("id", "at", "name", "amount")


def canonical(rows):
    """Rows of (id, microseconds since 1970, name, amount) as a number of rows and a digest."""
    ordered = [(int(number), int(at), name, None if amount is None else float(amount)) for number, at, name, amount in sorted(rows)]
    told = "\n".join(map(json.dumps, ordered))
    return {"rows": len(ordered), "digest": hashlib.sha256(told.encode()).hexdigest()}


def storage():
    """What a reader is told of S3 besides the environment."""
    return {"AWS_ALLOW_HTTP": "true"} if "AWS_ENDPOINT_URL" in os.environ else None


def by_delta_rs(uri, version):
    from deltalake import DeltaTable

    return of_arrow(DeltaTable(uri, version=version, storage_options=storage()).to_pyarrow_table(columns=list(COLUMNS)))


def by_polars(uri, version):
    import polars

    return of_arrow(polars.scan_delta(uri, version=version, storage_options=storage()).select(COLUMNS).collect().to_arrow())


def by_duckdb(uri, version):
    import duckdb
    import duckdb_extensions

    for extension in ("delta", "httpfs") if uri.startswith("s3:") else ("delta",):
        duckdb_extensions.import_extension(extension)
    connection = duckdb.connect()
    connection.execute("LOAD delta")
    if uri.startswith("s3:"):
        connection.execute("LOAD httpfs")
        host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        key, secret = (os.environ[f"AWS_{name}"].replace("'", "''") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        where = f"ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false, REGION '{os.environ['AWS_REGION']}'"
        connection.execute(f"CREATE SECRET (TYPE s3, KEY_ID '{key}', SECRET '{secret}', {where})")
    connection.execute(f"ATTACH '{uri}' AS t (TYPE delta, VERSION {version})")
    return canonical(connection.execute('SELECT id, epoch_us("at"), name, amount FROM t').fetchall())


def by_spark(uri, version):
    """Spark has no Delta jar here: delta-rs names the files of the version, and Spark reads them."""
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession, functions

    files = DeltaTable(uri, version=version).file_uris()
    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
    spark = session.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    frame = spark.read.parquet(*files).select("id", functions.unix_micros("at").alias("at"), "name", "amount")
    rows = [tuple(row) for row in frame.collect()]
    spark.stop()
    return canonical(rows)


def of_arrow(table):
    """An Arrow table with a timestamp column `at`."""
    import pyarrow as pa

    at = table["at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return canonical(zip(table["id"].to_pylist(), at.to_pylist(), table["name"].to_pylist(), table["amount"].to_pylist(), strict=True))


READERS = {"delta-rs": by_delta_rs, "polars": by_polars, "duckdb": by_duckdb, "spark": by_spark}

if __name__ == "__main__":
    print(json.dumps(READERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
