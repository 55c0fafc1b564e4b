"""Expectations checked on a version of a table, before it is accepted or whenever somebody asks.

What rules that quarantine set apart, as batches were read, is counted by its `problem` in the quarantine. Samples name a row by its
place and show its key and the columns that the rule is about, never the `subject`.
Does not know: what a result leads to (`flow.steps.ingest`), or rules about rows as SQL (`row_rules`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from bedplate.core.clock import duration_s, iso
from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset, Expectation
from bedplate.data.expression import confined, quoted
from bedplate.data.lake import Lake
from bedplate.data.row_rules import broken, explaining, problem_of

SAMPLES = 3
_SHOWN_CHARS = 80
_QUARANTINE = "_quarantine"


@dataclass(frozen=True)
class Checked:
    """What came of one expectation on one version.

    `broken` rows of `rows` break it and `quarantined` were set apart for it; `found` says what was met, in words. `samples` are up to
    three of the rows that break it, column -> value as text.
    """

    name: str
    otherwise: str
    held: bool
    broken: int
    rows: int
    quarantined: int
    found: str
    samples: tuple[Mapping[str, str | None], ...] = ()

    def recorded(self) -> dict[str, Any]:
        """What a version's record keeps: all but the samples, which are data."""
        return {name: value for name, value in asdict(self).items() if name != "samples"}


def check(lake: Lake, name: str, version: int, dataset: Dataset, now_s: float) -> tuple[Checked, ...]:
    """Every expectation of a dataset on a version of its table; freshness as of `now_s` (seconds since 1970).

    Raises NotFound for a table or version that is not there and DataError for a column or a predicate that is wrong.
    """
    if not dataset.expect:
        return ()
    stored = lake.dataset(name, version)
    apart = _quarantined(lake, name)
    with confined(stored) as connection:
        version_ = _Version(connection, name, dataset, stored.schema.names, stored.count_rows(), now_s)
        return tuple(version_.checked(each, apart.get(problem_of(each), 0)) for each in dataset.expect)


def stopping(name: str, results: Sequence[Checked]) -> DataError | None:
    """The error for the results that stop: counts, and three rows of each; None when all of them held."""
    failed = [each for each in results if each.otherwise == "stop" and not each.held]
    if not failed:
        return None
    what = "; ".join(f"expected {each.name}, found {each.found}{_shown(each.samples)}" for each in failed)
    fix = f"correct the source or `expect:`, then run it again; `bedplate data check {name}` shows every rule"
    return DataError(f"dataset {name!r} breaks {len(failed)} of its expectations, so no version was accepted: {what}", fix=fix)


class _Version:
    """One version of a table as `stored` of a confined connection."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, name: str, dataset: Dataset, columns: Sequence[str], rows: int, now_s: float
    ) -> None:
        self._connection = connection
        self._name = name
        self._dataset = dataset
        self._columns = columns
        self._rows = rows
        self._now_s = now_s

    def checked(self, each: Expectation, quarantined: int) -> Checked:
        """One expectation; `quarantined` rows were set apart for it."""
        with explaining(self._name, each, self._columns):
            held, broken, found, samples = self._measured(each)
        told = f"{found}, {quarantined} in quarantine" if quarantined else found
        return Checked(each.label, each.otherwise, held, broken, self._rows, quarantined, told, tuple(samples))

    def _measured(self, each: Expectation) -> tuple[bool, int, str, list[dict[str, str | None]]]:
        if each.rows is not None:
            held = each.rows.min <= self._rows and (each.rows.max is None or self._rows <= each.rows.max)
            return held, 0, f"{self._rows} rows", []
        if each.freshness is not None:
            return self._fresh(each.freshness)
        many, rows = self._repeated(each.unique) if each.unique else self._of_rows(each)
        told = "rows that repeat one" if each.unique else "rows that break it"
        return not many, many, f"{many} of {self._rows} {told}", rows

    def _of_rows(self, each: Expectation) -> tuple[int, list[dict[str, str | None]]]:
        where = broken(each)
        many = self._number(f"SELECT count(*) FROM stored WHERE {where}")  # noqa: S608 - a predicate of the user's own
        return many, self._samples(self._shown(each), f"FROM stored WHERE {where} ORDER BY _partition, _offset") if many else []

    def _repeated(self, columns: Sequence[str]) -> tuple[int, list[dict[str, str | None]]]:
        """How many rows have the same values as one before them, null being the same as nothing; and the values that occur most often."""
        names = ", ".join(map(quoted, columns))
        known = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in columns)
        groups = f"(SELECT {names}, count(*) AS _times FROM stored WHERE {known} GROUP BY {names} HAVING count(*) > 1)"  # noqa: S608 - quoted names
        many = self._number(f"SELECT coalesce(sum(_times - 1), 0)::BIGINT FROM {groups}")  # noqa: S608 - quoted names
        shown = [*(column for column in columns if column != self._dataset.subject), "_times"]
        return many, self._samples(shown, f"FROM {groups} ORDER BY _times DESC, {names}") if many else []

    def _fresh(self, limit: str) -> tuple[bool, int, str, list[dict[str, str | None]]]:
        column = self._dataset.event_time or self._dataset.known_at or "_arrived_at"
        newest_us = self._number(f"SELECT epoch_us(max({quoted(column)})) FROM stored")  # noqa: S608 - a quoted name
        if newest_us is None:
            return False, 0, f"no {column}", []
        age_s = self._now_s - newest_us / 1e6
        return age_s <= duration_s(limit), 0, f"{column} {iso(newest_us / 1e6)}, {max(age_s, 0) / 3600:.1f} h ago", []

    def _shown(self, each: Expectation) -> list[str]:
        """The place of a row, its key, and the columns that the rule is about."""
        named = set(each.columns) | set(re.findall(r"\w+", each.sql or ""))
        about = [column for column in self._columns if column in named or column in self._dataset.key]
        return ["_partition", "_offset", *(column for column in about if column != self._dataset.subject and not column.startswith("_"))]

    def _samples(self, columns: Sequence[str], rest: str) -> list[dict[str, str | None]]:
        texts = ", ".join(f"left({quoted(column)}::VARCHAR, {_SHOWN_CHARS})" for column in columns)
        rows = self._connection.execute(f"SELECT {texts} {rest} LIMIT {SAMPLES}").fetchall()
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _number(self, sql: str) -> Any:
        row = self._connection.execute(sql).fetchone()
        assert row is not None  # an aggregate has a row
        return row[0]


def _quarantined(lake: Lake, name: str) -> Mapping[str, int]:
    """How many rows are in quarantine, by problem."""
    if lake.table(name + _QUARANTINE) is None:
        return {}
    return Counter(map(str, lake.read(name + _QUARANTINE, columns=["problem"])["problem"].to_pylist()))


def _shown(samples: Sequence[Mapping[str, str | None]]) -> str:
    rows = (", ".join(f"{column.lstrip('_')} {value}" for column, value in sample.items()) for sample in samples)
    return f" (for example {' | '.join(rows)})" if samples else ""
