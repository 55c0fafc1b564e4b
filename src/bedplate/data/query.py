"""A query as text: which tables it reads, whether its result depends on them alone, and whether new rows of them give new rows of it.

Read by DuckDB's own parser, as JSON. A query is *incremental* when each row of its result comes from one row of one table, whatever the
other rows are: a projection and a filter. All others are computed in full.
Does not know: what is in a table, or how a query is run (`transform`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from bedplate.core.errors import SpecError

KNOWN_AT, PARTITION, OFFSET = "_known_at", "_partition", "_offset"
_CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
_SPREADING = {"unnest", "unlist", "generate_series", "range", "generate_subscripts"}


@dataclass(frozen=True)
class Query:
    """A query: its text, the tables that it reads in the order in which they are met, and why it is not incremental, empty when it is."""

    text: str
    tables: tuple[str, ...]
    why_full: str
    _tree: dict[str, Any]

    def with_places(self, arrival: bool) -> str:
        """The text of an incremental query that also gives `_partition` and `_offset` of the row that each row comes from.

        With `arrival` it gives `_known_at`, too. The table must have these columns; `*` does not take the first two in.
        """
        tree = json.loads(json.dumps(self._tree))
        node = tree["statements"][0]["node"]
        for star in _nodes(node["select_list"]):
            if star.get("class") == "STAR":
                star["exclude_list"] = [*star["exclude_list"], PARTITION, OFFSET]
        names = [PARTITION, OFFSET, *([KNOWN_AT] if arrival else [])]
        node["select_list"] += [{"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [name]} for name in names]
        with duckdb.connect() as connection:
            [(text,)] = connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchall()
        return str(text)


def parsed(text: str, field: str) -> Query:
    """The query of a text, `field` saying where it stands. Raises SpecError for what is none, or gives another result each time."""
    with duckdb.connect() as connection:
        [(serialized,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
        known = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
        aggregates = {name for (name,) in connection.execute(known).fetchall()} | {"count_star"}
        clocks = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT' AND function_type = 'scalar'"
        unstable = {name for (name,) in connection.execute(clocks).fetchall()} | _CLOCKS
    tree = json.loads(serialized)
    if tree["error"]:
        fix = "write one SELECT in DuckDB's SQL; a column that is named like a word of SQL (at, from) needs double quotes"
        raise SpecError(f"not a query: {tree['error_message']}", field=field, value=text, fix=fix)
    if len(tree["statements"]) != 1:
        raise SpecError("more than one query", field=field, value=text, fix="write one SELECT, or a dataset for each")
    _check(tree, unstable, field)
    return Query(text, _tables(tree), _why_full(tree["statements"][0]["node"], aggregates), tree)


def _check(tree: Mapping[str, Any], unstable: set[str], field: str) -> None:
    for node in _nodes(tree):
        names = node.get("column_names") or [node.get("function_name", "")]
        if len(names) == 1 and str(names[0]).lower() in unstable:
            fix = "take what it stands for from a column: a version is named by what it was made of"
            raise SpecError("the query gives another result each time", field=field, value=names[0], fix=fix)
        if node.get("sample"):
            raise SpecError("the query gives another result each time", field=field, value="a sample", fix="filter by a hash of a column")
        if node.get("type") == "TABLE_FUNCTION" and node.get("function", {}).get("function_name") not in _SPREADING:
            name = node.get("function", {}).get("function_name")
            raise SpecError("a query reads datasets only", field=field, value=name, fix="declare what it reads as a dataset")


def _tables(tree: Mapping[str, Any]) -> tuple[str, ...]:
    named = {entry["key"] for node in _nodes(tree) for entry in (node.get("cte_map") or {}).get("map", [])}
    read = [".".join(node["qualified_name"]["path"]) for node in _nodes(tree) if node.get("type") == "BASE_TABLE"]
    return tuple(dict.fromkeys(name for name in read if name not in named))


def _why_full(node: Mapping[str, Any], aggregates: set[str]) -> str:
    if node["type"] != "SELECT_NODE":
        return "it is a set operation"
    if node["cte_map"]["map"]:
        return "it has a common table expression"
    if node["modifiers"]:
        return "it orders, limits or removes duplicates"
    if (node.get("from_table") or {}).get("type") != "BASE_TABLE":
        return "it joins" if (node.get("from_table") or {}).get("type") == "JOIN" else "it reads from something other than a table"
    if node["group_expressions"] or node["group_sets"] or node["having"] or node["aggregate_handling"] != "STANDARD_HANDLING":
        return "it groups rows"
    for each in _nodes(node):
        name = str(each.get("function_name", "")).lower()
        if each.get("class") == "WINDOW" or node["qualify"]:
            return "it has a window function"
        if each.get("class") == "SUBQUERY":
            return "it has a subquery"
        if name in aggregates:
            return "it aggregates"
        if name in _SPREADING:
            return "one row becomes several"
    return ""


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings in a tree, parents first."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _nodes(each)
    elif isinstance(value, list):
        for each in value:
            yield from _nodes(each)
