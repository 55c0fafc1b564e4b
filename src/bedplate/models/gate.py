"""The gate: whether a candidate may take over an alias, by the rules that the project declares.

Pure: the same metrics give the same decision, with every side of every comparison in it.
Does not know: who evaluated, on what data, or how an alias moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.core.spec import Promote
from bedplate.models.expression import Compared, Metrics, judge, parse


@dataclass(frozen=True)
class Check:
    """One rule with its outcome. `left` and `right` are the sides of the comparison that decided it, None where there is no value."""

    text: str
    holds: bool
    left: float | None
    right: float | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; JSON has no NaN and no infinity, so those are the strings "nan", "inf" and "-inf"."""
        return {"text": self.text, "holds": self.holds, "left": _plain(self.left), "right": _plain(self.right), "note": self.note}

    def describe(self) -> str:
        """The rule, its outcome and its numbers, in one line."""
        verdict = "holds" if self.holds else "does not hold"
        numbers = "" if self.left is None or self.right is None else f"{self.left:.6g} against {self.right:.6g}"
        return f"{self.text} {verdict} ({', '.join(filter(None, [numbers, self.note]))})"


@dataclass(frozen=True)
class Decision:
    """What the gate decided: `promoted` when every check holds. `why` is one line for people."""

    promoted: bool
    checks: tuple[Check, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for events."""
        return {"promoted": self.promoted, "checks": [check.to_json() for check in self.checks], "why": self.why}


def check_expressions(promote: Promote) -> None:
    """Raises SpecError when a rule is not in the language; the names of metrics are known only once a candidate was evaluated."""
    for text in promote.when:
        parse(text)


def decide(promote: Promote, candidate: Mapping[str, float], production: Mapping[str, float] | None) -> Decision:
    """Judge a candidate's metrics; `production` is None when no version has the alias yet.

    Raises SpecError for a rule outside the language or a metric that is not there.
    """
    checks = tuple(_check(text, Metrics(candidate, production)) for text in promote.when)
    failed = [check for check in checks if not check.holds]
    if failed:
        why = "not promoted: " + "; ".join(check.describe() for check in failed)
    elif checks:
        why = "promoted: " + "; ".join(check.describe() for check in checks)
    else:
        why = "promoted: no rule is declared"
    return Decision(not failed, checks, why)


def _check(text: str, metrics: Metrics) -> Check:
    holds, compared = judge(parse(text), metrics)
    shown = _deciding(holds, compared)
    return Check(" ".join(text.split()), holds, shown.left, shown.right, shown.note)


def _deciding(holds: bool, compared: Sequence[Compared]) -> Compared:
    """The first comparison that came out as the rule did; below a `not` there may be none, then the first."""
    return next((each for each in compared if each.holds == holds), compared[0])


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
