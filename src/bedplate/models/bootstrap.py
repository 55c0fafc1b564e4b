"""How sure a claimed difference is: a paired bootstrap over the rows of the pinned set.

Rows are drawn with replacement, the same for candidate and production, and the difference of the rule's sides is computed anew; the
interval is that of the percentiles of these differences. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
Rows count as independent: where they are not (many rows of one person, of one day), the interval is too narrow.
Does not know: what follows from an interval (`gate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bedplate.core.errors import SpecError, nearest
from bedplate.models.expression import FIELD, Rule, claims_less, sides
from bedplate.models.grades import Floats, RowResults
from bedplate.models.reading import Metrics, Read

RESAMPLES = 1000
SEED = 20130101


@dataclass(frozen=True)
class Interval:
    """Where the difference of the sides of a rule (left less right) lies with a `confidence`, by so many `resamples` of `rows` rows."""

    low: float
    high: float
    confidence: float
    resamples: int
    rows: int
    seed: int

    def excludes_zero(self, less: bool) -> bool:
        """Whether all of it is below zero (`less`), or above."""
        return self.high < 0 if less else self.low > 0

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return vars(self).copy()


def interval(
    rule: Rule, candidate: RowResults | None, production: RowResults | None, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The interval of a rule's difference. `production` is only needed by a rule that names it.

    Raises SpecError for a metric or a group that has no rows, and when the two were not evaluated on the same rows.
    """
    assert rule.confidence is not None
    of_production = any(piece.production for piece in rule.reads)
    known = _with_rows(candidate, "the candidate"), _with_rows(production, "production") if of_production else None
    for piece in rule.reads:
        _check_read(piece, known[1] if piece.production and known[1] is not None else known[0])
    rows = known[0].rows
    if known[1] is not None and known[1].rows != rows:
        fix = "return a row for each row of the test split, in its order"
        raise SpecError("evaluate gave other rows for production", field=FIELD, value=[rows, known[1].rows], fix=fix)
    generator = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for number in range(resamples):
        drawn = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)
        left, right = sides(rule, _metrics(rule, *known, drawn))
        differences[number] = np.nan if left is None or right is None else left - right
    tail = (1 - rule.confidence) / 2
    low, high = (float(value) for value in np.quantile(differences, [tail, 1 - tail]))
    return Interval(low, high, rule.confidence, resamples, rows, seed)


def confident(rule: Rule, found: Interval) -> bool:
    """Whether an interval bears out what a rule claims."""
    return found.excludes_zero(claims_less(rule))


def _with_rows(rows: RowResults | None, whose: str) -> RowResults:
    if rows is None:
        fix = 'let evaluate return {"rows": {"rmse": errors, ...}} beside its metrics'
        raise SpecError(f"a confidence needs the rows of {whose}", field=FIELD, value="rows", fix=fix)
    return rows


def _check_read(piece: Read, rows: RowResults) -> None:
    if piece.name not in rows.shares:
        raise SpecError("no rows are known of a metric", field=FIELD, value=piece.name, fix=nearest(piece.name, rows.shares))
    if piece.group and piece.group not in rows.groups:
        raise SpecError("no rows are known of a group", field=FIELD, value=piece.group, fix=nearest(piece.group, rows.groups))


def _metrics(rule: Rule, candidate: RowResults, production: RowResults | None, drawn: Floats) -> Metrics:
    """What the rule reads, over the rows that were drawn. A group of which none was drawn is not there."""
    plain: tuple[dict[str, float], dict[str, float]] = ({}, {})
    sliced: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for piece in rule.reads:
        rows = production if piece.production else candidate
        assert rows is not None
        if not piece.group:
            plain[piece.production][piece.name] = rows.metric(piece.name, drawn)
            continue
        values = sliced[piece.production].setdefault(piece.group, {})
        for value, measured in rows.by_group(piece.group, piece.name, drawn).items():
            values.setdefault(value, {})[piece.name] = measured
        if piece.only:
            values.setdefault(piece.only, {piece.name: float("nan")})
    return Metrics(plain[0], plain[1], sliced[0], sliced[1])
