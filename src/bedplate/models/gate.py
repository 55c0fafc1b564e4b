"""The gate: whether a candidate may take over an alias, by the rules that the project declares.

Pure: the same grades give the same decision, with every side of every comparison in it; where confidence is asked for, the interval too.
Does not know: who evaluated, on what data, or how an alias moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.core.spec import Promote
from bedplate.models.bootstrap import Interval, confident, interval
from bedplate.models.expression import Compared, Rule, judge, parse
from bedplate.models.grades import Grades
from bedplate.models.reading import Metrics


@dataclass(frozen=True)
class Check:
    """One rule with its outcome. `left` and `right` are the sides of the comparison that decided it, None where there is no value.

    `interval` is of their difference, for a rule that asks for confidence.
    """

    text: str
    holds: bool
    left: float | None
    right: float | None
    note: str = ""
    interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; JSON has no NaN and no infinity, so those are the strings "nan", "inf" and "-inf"."""
        sides = {"left": _plain(self.left), "right": _plain(self.right)}
        sure = {"interval": {name: _plain(value) for name, value in self.interval.to_json().items()}} if self.interval else {}
        return {"text": self.text, "holds": self.holds, **sides, "note": self.note, **sure}

    def describe(self) -> str:
        """The rule, its outcome and its numbers, in one line."""
        verdict = "holds" if self.holds else "does not hold"
        numbers = "" if self.left is None or self.right is None else f"{self.left:.6g} against {self.right:.6g}"
        return f"{self.text} {verdict} ({', '.join(filter(None, [numbers, self.note]))})"


@dataclass(frozen=True)
class Decision:
    """What the gate decided: `promoted` when every check holds and nobody else must approve. `why` is one line for people.

    `pending` says who must: a number of people, or names.
    """

    promoted: bool
    checks: tuple[Check, ...]
    why: str
    pending: int | tuple[str, ...] = 0

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for events."""
        waits = self.pending if isinstance(self.pending, int) else list(self.pending)
        shown = {"pending": waits} if waits else {}
        return {"promoted": self.promoted, "checks": [check.to_json() for check in self.checks], "why": self.why, **shown}


def decide(promote: Promote, candidate: Grades, production: Grades | None, drift: Mapping[str, float] | None = None) -> Decision:
    """Judge a candidate; `production` is None when no version has the alias yet, `drift` is by measure and column, as `psi(dep_delay)`.

    Raises SpecError for a rule outside the language or a metric that is not there.
    """
    checks = tuple(_check(parse(text), candidate, production, drift) for text in promote.when)
    failed = [check for check in checks if not check.holds]
    if failed:
        return Decision(False, checks, "not promoted: " + "; ".join(check.describe() for check in failed))
    held = "; ".join(check.describe() for check in checks) or "no rule is declared"
    if promote.approvals:
        return Decision(False, checks, f"waits for {_people(promote.approvals)} to approve: {held}", promote.approvals)
    return Decision(True, checks, f"promoted: {held}")


def _people(approvals: int | tuple[str, ...]) -> str:
    if not isinstance(approvals, int):
        return " and ".join(approvals)
    return "1 person" if approvals == 1 else f"{approvals} people"


def _check(rule: Rule, candidate: Grades, production: Grades | None, drift: Mapping[str, float] | None) -> Check:
    before = (production.metrics, production.slices) if production is not None else (None, None)
    holds, compared = judge(rule, Metrics(candidate.metrics, before[0], candidate.slices, before[1], drift))
    shown = _deciding(holds, compared)
    text = " ".join(rule.text.split())
    if rule.confidence is None or shown.left is None or shown.right is None:
        return Check(text, holds, shown.left, shown.right, shown.note)
    found = interval(rule, candidate.rows, production.rows if production is not None else None)
    note = f"the difference lies in [{found.low:.4g}, {found.high:.4g}] with {rule.confidence * 100:g}% confidence"
    return Check(text, confident(rule, found), shown.left, shown.right, note, found)


def _deciding(holds: bool, compared: Sequence[Compared]) -> Compared:
    """The first comparison that came out as the rule did; below a `not` there may be none, then the first."""
    return next((each for each in compared if each.holds == holds), compared[0])


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
