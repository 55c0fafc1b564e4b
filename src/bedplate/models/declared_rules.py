"""What the rules of a gate ask for, read from their text alone: whether they are in the language, what must be measured, what compared.

Every plan reads rules, so nothing is imported here that only judging needs (numpy takes 0.1 s).
Does not know: how a rule is judged (`gate`).
"""

from __future__ import annotations

from bedplate.core.spec import Promote
from bedplate.models.expression import parse
from bedplate.models.reading import MEASURED


def check_expressions(promote: Promote) -> None:
    """Raises SpecError when a rule is not in the language; the names of metrics are known only once a candidate was evaluated."""
    for text in promote.when:
        parse(text)


def to_measure(promote: Promote) -> set[str]:
    """The values that the gate itself must measure for these rules: latencies and the size."""
    return {piece.name for text in promote.when for piece in parse(text).reads if piece.name in MEASURED and not piece.group}


def to_compare(promote: Promote) -> set[tuple[str, str]]:
    """The drifts that these rules name, as (measure, column)."""
    return {(piece.measure, piece.name) for text in promote.when for piece in parse(text).reads if piece.measure}
