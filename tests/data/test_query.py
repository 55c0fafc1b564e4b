"""What a query reads, and whether new rows of its table give new rows of its result."""

from __future__ import annotations

import pytest

from bedplate.core.errors import SpecError
from bedplate.data.query import parsed


@pytest.mark.parametrize(
    ("text", "tables", "why_full"),
    [
        ("SELECT *, a + 1 AS b FROM t WHERE x > 1", ("t",), ""),
        ("SELECT upper(a) AS a, greatest(b, c) AS top, list_sum([b, c]) AS s FROM t AS u", ("t",), ""),
        ("SELECT a FROM t GROUP BY a", ("t",), "it groups rows"),
        ("SELECT count(*) AS n FROM t", ("t",), "it aggregates"),
        ("SELECT sum(a) FILTER (b) AS n FROM t", ("t",), "it aggregates"),
        ("SELECT a FROM t ORDER BY a", ("t",), "it orders, limits or removes duplicates"),
        ("SELECT DISTINCT a FROM t", ("t",), "it orders, limits or removes duplicates"),
        ("SELECT a FROM t LIMIT 3", ("t",), "it orders, limits or removes duplicates"),
        ("SELECT a FROM t UNION ALL SELECT b FROM u", ("t", "u"), "it is a set operation"),
        ("WITH w AS (SELECT a FROM t) SELECT a FROM w", ("t",), "it has a common table expression"),
        ("SELECT a, (SELECT max(b) FROM u) AS b FROM t", ("t", "u"), "it has a subquery"),
        ("SELECT a FROM t WHERE a IN (SELECT b FROM u)", ("t", "u"), "it has a subquery"),
        ("SELECT row_number() OVER (ORDER BY a) AS n FROM t", ("t",), "it has a window function"),
        ("SELECT a FROM t QUALIFY lag(a) OVER () > 1", ("t",), "it has a window function"),
        ("SELECT unnest([a, b]) AS a FROM t", ("t",), "one row becomes several"),
        ("SELECT a FROM t JOIN u USING (k)", ("t", "u"), "it joins"),
        ("SELECT a FROM (SELECT a FROM t)", ("t",), "it reads from something other than a table"),
    ],
)
def test_what_it_reads_and_whether_it_is_incremental(text: str, tables: tuple[str, ...], why_full: str) -> None:
    query = parsed(text, "datasets.x.sql")
    assert (tuple(sorted(query.tables)), query.why_full) == (tables, why_full)


def test_an_incremental_query_can_also_give_the_places_of_its_rows() -> None:
    query = parsed("SELECT *, a + 1 AS b FROM t WHERE a > 1", "datasets.x.sql")
    assert (
        query.with_places(arrival=False) == "SELECT * EXCLUDE (_partition, _offset), (a + 1) AS b, _partition, _offset FROM t WHERE (a > 1)"
    )
    assert query.with_places(arrival=True).split(" FROM ")[0].endswith("_partition, _offset, _known_at")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELEC 1", r'datasets.x.sql: not a query: syntax error at or near "SELEC"'),
        ("DELETE FROM t", "not a query"),
        ("SELECT 1; SELECT 2", "more than one query"),
        ("SELECT now() AS at FROM t", r"gives another result each time \(got 'now'\)"),
        ("SELECT current_date AS at FROM t", "gives another result each time"),
        ("SELECT random() AS r FROM t", "gives another result each time"),
        ("SELECT * FROM t USING SAMPLE 10", "gives another result each time"),
        ("SELECT * FROM read_csv('/etc/passwd')", "a query reads datasets only"),
        ("SELECT getvariable('x') AS x FROM t", "gives another result each time"),
    ],
)
def test_what_is_no_query_or_not_the_same_each_time_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parsed(text, "datasets.x.sql")
