"""Residency: labels travel from data to all that is made of it, and every place is held against them. Pure.

A rule that a label has is kept by jurisdiction *and* by the operator's home; what a place does not say counts as outside.
Does not know: where a place is written down, or which place is cheapest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter

from bedplate.core.pool import Home
from bedplate.core.spec import Residence

Refusal = tuple[str, str]  # the rule, and why


def travel(needs: Mapping[str, Sequence[str]], own: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The labels of each step's outputs, checkpoints and logs: its own and those of all that it reads. Raises CycleError."""
    labels: dict[str, frozenset[str]] = {}
    for step in TopologicalSorter(needs).static_order():
        given = (labels[need] for need in needs.get(step, ()))
        labels[step] = own.get(step, frozenset()).union(*given)
    return labels


def outside(labels: frozenset[str], place: Home, rules: Mapping[str, Residence], where: str) -> list[Refusal]:
    """Why what carries `labels` may not be at `place`, called `where`; empty when it may. A label without a rule binds nothing."""
    found: list[Refusal] = []
    for label in sorted(labels & rules.keys()):
        rule = rules[label]
        if rule.jurisdictions and place.jurisdiction not in rule.jurisdictions:
            found.append(("residency", f"{where}: {label} data stays in {_list(rule.jurisdictions)}, {_said(place.jurisdiction)}"))
        if rule.operators_from and place.operator_home not in rule.operators_from:
            said = f"{place.operator or 'its operator'}'s home is {place.operator_home}" if place.operator_home else "that home is unknown"
            found.append(("operator", f"{where}: {label} data is kept by operators from {_list(rule.operators_from)}, {said}"))
    return found


def _said(jurisdiction: str) -> str:
    return f"this is {jurisdiction}" if jurisdiction else "its jurisdiction is unknown"


def _list(names: Sequence[str]) -> str:
    return " or ".join(names)
