"""Which checkpoints are kept: the last ones, every nth, the best by a metric. Pure.

Does not know: where they lie, or how they are deleted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.core.errors import SpecError


@dataclass(frozen=True)
class Keep:
    """The `last` so many, each `every`-th that was made (0: none for that), and the best by the metric `best`, for which small is good
    unless it begins with "-" (`-accuracy`)."""

    last: int = 2
    every: int = 0
    best: str | None = None

    @staticmethod
    def of(spec: Mapping[str, Any] | None) -> Keep:
        """What a job declares. Raises SpecError for what cannot be kept so."""
        values = {name: value for name, value in (spec or {}).items() if value is not None}
        keep = Keep(**values)
        if keep.last < 1:
            raise SpecError("at least the last checkpoint must be kept", value=keep.last)
        return keep


@dataclass(frozen=True)
class Made:
    """A committed checkpoint: where it lies, the how-many-th it is (from 1), the metrics at its time."""

    location: str
    number: int
    metrics: Mapping[str, float]


def superfluous(made: Sequence[Made], keep: Keep) -> list[Made]:
    """Those of `made` (oldest first) that nothing asks to keep."""
    kept = {each.location for each in made[-keep.last :]}
    if keep.every:
        kept |= {each.location for each in made if each.number % keep.every == 0}
    if keep.best:
        kept |= {each.location for each in _best(made, keep.best)}
    return [each for each in made if each.location not in kept]


def _best(made: Iterable[Made], metric: str) -> list[Made]:
    name, sign = metric.removeprefix("-"), -1 if metric.startswith("-") else 1
    known = [each for each in made if not math.isnan(each.metrics.get(name, math.nan))]  # a NaN that came first would stay the best
    return [min(known, key=lambda each: sign * each.metrics[name])] if known else []
