"""Users' expressions: what they may see, and what they are told when one is wrong."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.data.expression import confined, explained, literal, quoted

TABLE = pa.table({"amount": [1, 2], 'odd"name': ["a", "b"]})


def test_an_expression_sees_its_table_in_utc_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with confined(TABLE) as connection:
        assert connection.execute("SELECT sum(amount) FROM stored").fetchone() == (3,)
        assert connection.execute("SELECT ('2024-01-01'::TIMESTAMPTZ)::VARCHAR").fetchone() == ("2024-01-01 00:00:00+00",)
        for reach in (f"FROM read_csv('{tmp_path / 'secret.csv'}')", "FROM TABLE", "SET enable_external_access = true", "INSTALL httpfs"):
            with pytest.raises(duckdb.Error):
                connection.execute(reach).fetchall()


def test_a_wrong_expression_is_told_with_its_place_and_the_nearest_column() -> None:
    with confined(TABLE) as connection, pytest.raises(DataError, match="did you mean 'amount'") as caught:
        with explained("rule 1", "amuont > 1", TABLE.column_names):
            connection.sql("SELECT amuont > 1 FROM stored")
    assert caught.value.what.startswith("rule 1: Binder Error")
    assert caught.value.value == "amuont > 1"
    with confined(TABLE) as connection, pytest.raises(DataError, match="it is SQL as DuckDB reads it"), explained("here", "1 +", []):
        connection.sql("SELECT 1 +")


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.one_of(TEXTS, st.integers(-(2**60), 2**60), FLOATS))
def test_a_literal_is_the_value_it_stands_for(value: float | str) -> None:
    cast = "VARCHAR" if isinstance(value, str) else "DOUBLE" if isinstance(value, float) else "BIGINT"
    assert duckdb.execute(f"SELECT ({literal(value)})::{cast}").fetchone() == (value,)


def test_a_quoted_name_is_that_column() -> None:
    with confined(TABLE) as connection:
        assert connection.execute(f"SELECT {quoted(TABLE.column_names[1])} FROM stored").fetchall() == [("a",), ("b",)]
