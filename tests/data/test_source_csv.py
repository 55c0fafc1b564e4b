"""CSV as people write it: missing values, quotes, rows of a wrong length, text in another encoding."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.data import source_csv
from bedplate.data.schema import Batch, Shape
from bedplate.data.source_csv import CsvFile

SHAPE = Shape("weather", {"origin": "string", "wind": "float", "count": "int"})


def read(tmp_path: Path, text: str | bytes, shape: Shape = SHAPE) -> list[Batch]:
    path = tmp_path / "w.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(CsvFile(path).batches(shape, 0))


def good(batches: list[Batch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.good.drop_columns(["_arrived_at", "_partition"]).to_pylist()]


def bad(batches: list[Batch]) -> list[tuple[int, str, bytes]]:
    return [(row["_offset"], row["problem"], row["raw"]) for batch in batches for row in batch.bad.to_pylist()]


def test_what_stands_for_a_missing_value(tmp_path: Path) -> None:
    rows = good(read(tmp_path, 'origin,wind,count\nEWR,NA,\nNA, NaN ,null\n"",1.5, 7\n,N/A,None\n'))
    assert [(row["origin"], row["wind"], row["count"]) for row in rows] == [
        ("EWR", None, None),
        ("NA", None, None),
        ("", 1.5, 7),
        (None, None, None),
    ]


def test_columns_are_taken_by_name_and_others_are_counted(tmp_path: Path) -> None:
    (batch, *_) = read(tmp_path, "\ufeffcount,extra,origin,wind\n1,x,a,2\n")
    assert good([batch]) == [{"origin": "a", "wind": 2.0, "count": 1, "_offset": 0}]
    assert dict(batch.fields) == {"count": 1, "extra": 1, "origin": 1, "wind": 1}


def test_rows_that_do_not_fit_are_set_apart_with_their_cells(tmp_path: Path) -> None:
    batches = read(tmp_path, 'origin,wind,count\na,1,1\n"b, ""c""",calm,2\nd,3,3.5\n')
    assert [row["_offset"] for row in good(batches)] == [0]
    assert bad(batches) == [(1, "wind: not a float", b'"b, ""c""",calm,2'), (2, "count: not an int", b"d,3,3.5")]


def test_rows_of_a_wrong_length_are_set_apart_and_the_others_keep_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"r{number},{number}.5,{number}" if number % 7 else f"short{number},1" for number in range(400)]
    monkeypatch.setattr(source_csv, "_BLOCK_BYTES", 512)  # many blocks
    batches = read(tmp_path, "origin,wind,count\n" + "\n".join(lines) + "\n")
    assert len(batches) > 5
    rows = good(batches)
    assert [row["_offset"] for row in rows] == [number for number in range(400) if number % 7]
    assert all(row["count"] == row["_offset"] for row in rows)
    assert bad(batches) == [(number, "a wrong number of cells", f"short{number},1".encode()) for number in range(0, 400, 7)]


def test_a_file_of_nothing_but_short_rows_and_one_of_a_header_alone(tmp_path: Path) -> None:
    assert [offset for offset, _, _ in bad(read(tmp_path, "origin,wind,count\n1\n2\n"))] == [0, 1]
    assert good(read(tmp_path, "origin,wind,count\n")) == []


def test_quoted_cells_may_hold_line_ends(tmp_path: Path) -> None:
    assert [row["origin"] for row in good(read(tmp_path, 'origin,wind,count\n"a\nb",1,1\nc,1,1\n'))] == ["a\nb", "c"]


def test_a_cell_that_is_not_utf8_sets_its_row_apart_with_its_bytes(tmp_path: Path) -> None:
    batches = read(tmp_path, b"origin,wind,count\nok,1,1\nM\xfcnchen,1,1\n")
    assert [row["origin"] for row in good(batches)] == ["ok"]
    assert bad(batches) == [(1, "origin: not a string", b"M\xfcnchen,1,1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "needs a header"),
        (b"a,a\n1,2\n", "needs a header"),
        (b"a,,c\n1,2,3\n", "needs a header"),
        (b"\xff\xfe\n1\n", "header of a CSV file cannot be read"),
        (b"origin,windy,count\n", r"declares a column that w\.csv does not have.*'wind'.*did you mean 'windy'"),
    ],
)
def test_a_header_that_is_wrong_is_an_error_of_the_file(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_types_are_inferred(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_text("s,i,f,b,t,e\nx,1,NA,true,2013-01-01T10:00:00Z,\ny,2,1.5,false,,\n")
    assert CsvFile(path).infer() == {"s": "string", "i": "int", "f": "float", "b": "bool", "t": "timestamp", "e": "string"}
    path.write_text("a,b\n")
    assert CsvFile(path).infer() == {"a": "string", "b": "string"}


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6), st.integers(-9, 9)), max_size=9
    )
)
def test_whatever_is_written_as_csv_comes_back(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["origin", "count"])
    writer.writerows(rows)
    found = good(read(tmp_path, out.getvalue(), Shape("t", {"origin": "string", "count": "int"})))
    assert [(row["origin"], row["count"]) for row in found] == rows
