"""Files by their ending, JSON lines in detail, and what is said of a file that cannot be read."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bedplate.core.errors import DataError
from bedplate.data import sources
from bedplate.data.schema import Shape
from bedplate.data.sources import open_file

ROWS = [{"name": "a", "size": 1}, {"name": "b", "size": None}, {"name": "c", "size": 3}]
SHAPE = Shape("things", {"name": "string", "size": "int"}, ("name",))
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = b"name,size\na,1\nb,\nc,3\n"


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def parquet(_: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return bytes(sink.getvalue())


FILES: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "x.csv": (CSV, bytes),
    "x.csv.gz": (CSV, gzip.compress),
    "x.csv.zst": (CSV, zstd),
    "X.CSV": (CSV, bytes),
    "x.jsonl": (LINES, bytes),
    "x.ndjson": (LINES, bytes),
    "x.jsonl.gz": (LINES, gzip.compress),
    "x.jsonl.zst": (LINES, zstd),
    "x.parquet": (b"", parquet),
}


@pytest.mark.parametrize("name", list(FILES))
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    data, pack = FILES[name]
    (tmp_path / name).write_bytes(pack(data))
    source = open_file(tmp_path / name)
    assert source.infer() == {"name": "string", "size": "int"}
    table = pa.concat_tables([batch.good for batch in source.batches(SHAPE, 1_500_000)])
    assert table.select(["name", "size"]).to_pylist() == ROWS
    assert table["_offset"].to_pylist() == [0, 1, 2]
    assert {moment.timestamp() for moment in table["_arrived_at"].to_pylist()} == {1.5}


@pytest.mark.parametrize("name", ["x.xlsx", "x", "x.csv.bz2", "x.parquet.gz", "csv"])
def test_an_unknown_ending_is_an_error_that_lists_the_known(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"no reader.*use \.csv, \.jsonl"):
        open_file(tmp_path / name)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing.*'gone\.csv'"):
        open_file(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("name", "data"),
    [("x.parquet", b"not parquet"), ("x.csv.gz", b"not gzip"), ("x.jsonl.gz", gzip.compress(LINES * 2000)[:-40]), ("x.csv.zst", b"no")],
)
def test_bytes_that_are_not_what_the_ending_says_are_reported(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"cannot be read.*'{name}'"):
        list(open_file(tmp_path / name).batches(SHAPE, 0))


def test_lines_are_numbered_with_the_blank_ones_and_the_last_needs_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 11)  # lines lie across blocks
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"name": "a"}\r\n\n  \n{"name": "b"}\nbroken\n{"name": "c"}')
    batches = list(open_file(path).batches(Shape("t", {"name": "string"}), 0))
    assert [offset for batch in batches for offset in batch.good["_offset"].to_pylist()] == [0, 3, 5]
    bad = [row for batch in batches for row in batch.bad.to_pylist()]
    assert [(row["_offset"], row["problem"], row["raw"]) for row in bad] == [(4, "not valid JSON", b"broken")]


def test_a_declared_column_that_no_line_has_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"name": "a", "sise": 1}\n{"name": "b"}\n')
    with pytest.raises(DataError, match=r"table 'things' declares a column that x\.jsonl does not have.*did you mean 'sise'"):
        list(open_file(path).batches(SHAPE, 0))


def test_an_empty_file_of_lines_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"")
    assert open_file(path).infer() == {}
    assert sum(batch.good.num_rows for batch in open_file(path).batches(SHAPE, 0)) == 0


def files(folder: Path, **contents: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("ending", "parts"),
    [("csv", [CSV, b"name,size\n", b"size,name\nx,d\n4,e\n"]), ("jsonl", [LINES, b"\n", b'{"size": "x"}\n\n{"name": "e", "size": 4}\n'])],
)
def test_many_files_are_one_table_and_count_on(tmp_path: Path, ending: str, parts: list[bytes]) -> None:
    folder = files(tmp_path / "days", **{f"{number}_{ending}": part for number, part in enumerate(parts)})
    os.utime(folder / f"2.{ending}")
    source = open_file(folder / f"*.{ending}")
    assert source.infer() == {"name": "string", "size": "int"}
    batches = list(source.batches(SHAPE, 0))
    good, bad = pa.concat_tables([each.good for each in batches]), pa.concat_tables([each.bad for each in batches])
    assert good["name"].to_pylist() == ["a", "b", "c", "e"]
    assert bad.num_rows == 1
    offsets = [*good["_offset"].to_pylist(), *bad["_offset"].to_pylist()]
    assert len(set(offsets)) == 5
    assert good["_offset"].to_pylist()[:3] == [0, 1, 2]
    assert good["_offset"].to_pylist()[3] > bad["_offset"].to_pylist()[0] > 2
    arrived = [moment.timestamp() for moment in good["_arrived_at"].to_pylist()]
    assert arrived[0] == pytest.approx((folder / f"0.{ending}").stat().st_ctime, abs=1e-3)
    assert arrived[3] == pytest.approx((folder / f"2.{ending}").stat().st_ctime, abs=1e-3)


def test_a_file_of_many_that_is_wrong_is_named(tmp_path: Path) -> None:
    folder = files(tmp_path / "days", a_csv=CSV, b_csv=b"name,sice\nx,1\n", c_parquet=b"PAR1 is not all")
    with pytest.raises(DataError, match=r"declares a column that b\.csv does not have"):
        list(open_file(folder / "*.csv").batches(SHAPE, 0))
    with pytest.raises(DataError, match=r"the source file cannot be read.*c\.parquet"):
        open_file(folder / "*.parquet").infer()
    with pytest.raises(DataError, match="no file matches the source"):
        open_file(folder / "*.jsonl")
    assert open_file(folder / "*").infer() == {"path": "string", "text": "string"}
