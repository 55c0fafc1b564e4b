"""How each column moved between two samples: PSI, KS, nulls, categories that came and went, and the shares of bins to draw.

By custom a column with a PSI below 0.1 is stable, above 0.25 it has moved (`drift`). Text with more than `MOST_CATEGORIES` values is no
category: its nulls and its number of values are compared, and nothing else.
Does not know: tables, versions, or how it is drawn (`drift_page`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from bedplate.core.clock import iso
from bedplate.models.drift import Column, deciles, ks, psi_of_shares, shares_of

MOST_CATEGORIES = 1000
SHOWN_CATEGORIES = 20
NAMED = 5
STABLE, MOVED = 0.1, 0.25

Kind = Literal["number", "time", "category", "text"]


@dataclass(frozen=True)
class Bin:
    """One bin of a column: its label, and the shares of the rows before and after that lie in it."""

    label: str
    before: float
    after: float


@dataclass(frozen=True)
class ColumnDrift:
    """One column. `psi` and `ks` are None where a side has no rows or the column is text; `told` says the most important in words."""

    column: str
    kind: Kind
    psi: float | None
    ks: float | None
    nulls_before: float
    nulls_after: float
    told: str
    bins: tuple[Bin, ...]

    @property
    def verdict(self) -> str:
        """`stable`, `shifted` or `moved`, by the custom for PSI; `-` where there is none."""
        if self.psi is None:
            return "-"
        return "stable" if self.psi < STABLE else "moved" if self.psi > MOVED else "shifted"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "verdict": self.verdict}


def of_numbers(column: str, before: Column, after: Column, kind: Literal["number", "time"] = "number") -> ColumnDrift:
    """A column of numbers, NaN for null, in the deciles of `before`. Of `kind` time they are seconds since 1970."""
    edges = deciles(before)
    sides = [shares_of(side, edges) if len(side) else np.zeros(len(edges) + 2) for side in (before, after)]
    bins = [Bin(label, float(was), float(now)) for label, was, now in zip(_labels(edges, kind), *sides, strict=True)]
    both = len(before) > 0 and len(after) > 0
    return ColumnDrift(
        column,
        kind,
        psi_of_shares(*sides) if both else None,
        _number(ks(before, after)),
        bins[-1].before,
        bins[-1].after,
        f"median {_median(before, kind)} -> {_median(after, kind)}",
        tuple(bins),
    )


def of_texts(column: str, before: Mapping[str | None, int], after: Mapping[str | None, int]) -> ColumnDrift:
    """A column of texts by how often each value occurs, None for null."""
    names = sorted({*before, *after} - {None}, key=lambda name: (-before.get(name, 0) - after.get(name, 0), str(name)))
    rows = [max(1, sum(side.values())) for side in (before, after)]
    nulls = before.get(None, 0) / rows[0], after.get(None, 0) / rows[1]
    if len(names) > MOST_CATEGORIES:
        told = f"{len(before.keys() - {None})} -> {len(after.keys() - {None})} values: not compared one by one"
        return ColumnDrift(column, "text", None, None, nulls[0], nulls[1], told, ())
    sides = [np.array([side.get(name, 0) / count for name in (*names, None)]) for side, count in zip((before, after), rows, strict=True)]
    both = bool(before) and bool(after)
    distance = float(np.abs(sides[0] - sides[1]).sum() / 2) if both else None
    changes = _categories("new", after.keys() - before.keys()) + _categories("gone", before.keys() - after.keys())
    drawn = [Bin(str(name), float(was), float(now)) for name, was, now in zip(names, *sides, strict=False)]
    shown, rest = drawn[:SHOWN_CATEGORIES], drawn[SHOWN_CATEGORIES:]
    if rest:
        shown.append(Bin(f"{len(rest)} others", sum(each.before for each in rest), sum(each.after for each in rest)))
    shown.append(Bin("null", *nulls))
    index = psi_of_shares(sides[0], sides[1]) if both else None
    return ColumnDrift(column, "category", index, distance, nulls[0], nulls[1], "; ".join(changes) or "the same values", tuple(shown))


def _categories(what: str, names: set[str | None]) -> list[str]:
    known = sorted(str(name) for name in names if name is not None)
    more = ", ..." if len(known) > NAMED else ""
    return [f"{len(known)} {what}: {', '.join(known[:NAMED])}{more}"] if known else []


def _labels(edges: Column, kind: str) -> Sequence[str]:
    texts = [_text(edge, kind) for edge in edges.tolist()]
    if not texts:
        return ["any", "null"]
    return [f"to {texts[0]}", *(f"to {text}" for text in texts[1:]), f"above {texts[-1]}", "null"]


def _median(values: Column, kind: str) -> str:
    known = values[~np.isnan(values)]
    return _text(float(np.median(known)), kind) if len(known) else "none"


def _text(value: float, kind: str) -> str:
    return iso(value)[:16].replace("T", " ") if kind == "time" else f"{value:.4g}"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
