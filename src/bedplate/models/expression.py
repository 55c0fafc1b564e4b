"""The little language of promotion rules: comparisons of metrics, such as `rmse <= production.rmse * 1.01`.

The grammar is Python's, cut down to numbers, names, `production.NAME`, `+ - * /`, comparisons (chained ones too), parentheses and
`and or not`. Text is parsed with `ast` and walked here; nothing is ever handed to an interpreter.
Does not know: which rules a model has, or what follows when one holds (`gate`).
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bedplate.core.errors import SpecError, nearest

MAX_CHARS = 500
PRODUCTION = "production"
FIELD = "promote.when"

_COMPARE: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_EXAMPLE = 'write a comparison of metrics, for example "rmse <= production.rmse * 1.01"'


@dataclass(frozen=True)
class Compared:
    """One comparison. A side is None where it has no value; `note` says why the comparison counts as it does."""

    holds: bool
    left: float | None
    right: float | None
    note: str = ""


@dataclass(frozen=True)
class Metrics:
    """What a rule is judged on: the candidate's metrics, and production's, or None when there is no production version."""

    candidate: Mapping[str, float]
    production: Mapping[str, float] | None


def parse(text: str) -> ast.expr:
    """The tree of a rule. Raises SpecError that shows the first piece outside the grammar, and the fix."""
    if len(text) > MAX_CHARS:
        raise SpecError("a rule is too long", field=FIELD, value=text[:40] + "…", fix=f"use at most {MAX_CHARS} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError("a rule is not an expression", field=FIELD, value=text, fix=_EXAMPLE) from error
    _check_truth(tree, text)
    return tree


def judge(tree: ast.expr, metrics: Metrics) -> tuple[bool, list[Compared]]:
    """Whether a parsed rule holds, and every comparison in it, in the order of the text.

    A comparison that mentions an absent production counts in favor of the rule, also below `not`. One with a side that is no number
    (NaN, a division by zero) counts against it. Raises SpecError for a metric that nobody reported.
    """
    _check_names(tree, metrics)
    compared: list[Compared] = []
    return _truth(tree, metrics, compared, True), compared


def _check_truth(node: ast.expr, text: str) -> None:
    match node:
        case ast.BoolOp():
            for value in node.values:
                _check_truth(value, text)
        case ast.UnaryOp(op=ast.Not()):
            _check_truth(node.operand, text)
        case ast.Compare():
            for each in node.ops:
                if type(each) not in _COMPARE:
                    raise _refused(node, text, "use < <= > >= == or !=")
            for side in (node.left, *node.comparators):
                _check_number(side, text)
        case _:
            raise _refused(node, text, _EXAMPLE)


def _check_number(node: ast.expr, text: str) -> None:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if abs(value) > 1e300:
                raise _refused(node, text, "use a number below 1e300")
        case ast.Name(id=name):
            if name == PRODUCTION:
                raise _refused(node, text, f"name a metric of it, for example {PRODUCTION}.rmse")
        case ast.Attribute(value=ast.Name(id=name)):
            if name != PRODUCTION:
                raise _refused(node, text, f"only {PRODUCTION} has metrics by name: write {node.attr} or {PRODUCTION}.{node.attr}")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            _check_number(node.operand, text)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            _check_number(node.left, text)
            _check_number(node.right, text)
        case _:
            raise _refused(node, text, "use numbers, metric names, production.NAME, + - * / and parentheses")


def _refused(node: ast.expr, text: str, fix: str) -> SpecError:
    piece = ast.get_source_segment(text.strip(), node) or text
    return SpecError(f"a rule cannot hold {piece!r}", field=FIELD, value=text, fix=fix)


def _check_names(tree: ast.expr, metrics: Metrics) -> None:
    for name, of_production in _names(tree):
        known = metrics.production if of_production else metrics.candidate
        if known is not None and name not in known:
            whose = "production" if of_production else "the candidate"
            raise SpecError(f"{whose} has no such metric", field=FIELD, value=name, fix=nearest(name, known))


def _names(node: ast.expr) -> list[tuple[str, bool]]:
    """Every metric below `node` and whether it is production's."""
    found = [(part.attr, True) for part in ast.walk(node) if isinstance(part, ast.Attribute)]
    return found + [(part.id, False) for part in ast.walk(node) if isinstance(part, ast.Name) and part.id != PRODUCTION]


def _truth(node: ast.expr, metrics: Metrics, compared: list[Compared], positive: bool) -> bool:
    """`positive` is False below an odd number of `not`: there, what counts in favor of the rule is a comparison that does not hold."""
    match node:
        case ast.BoolOp():
            values = [_truth(value, metrics, compared, positive) for value in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.UnaryOp():
            return not _truth(node.operand, metrics, compared, not positive)
        case ast.Compare():
            sides = [node.left, *node.comparators]
            pairs = [_pair(*pair, metrics, positive) for pair in zip(sides, node.ops, sides[1:], strict=False)]
            compared.extend(pairs)
            return all(pair.holds for pair in pairs)
    raise AssertionError(ast.dump(node))  # parse() lets nothing else through


def _pair(left: ast.expr, op: ast.cmpop, right: ast.expr, metrics: Metrics, positive: bool) -> Compared:
    names = _names(left) + _names(right)
    sides = _value(left, metrics), _value(right, metrics)
    for name, of_production in names:
        known = metrics.production if of_production else metrics.candidate
        if known is not None and math.isnan(known[name]):
            return Compared(not positive, *sides, note=f"{PRODUCTION + '.' if of_production else ''}{name} is not a number (NaN)")
    if sides[0] is None or sides[1] is None:
        return Compared(positive, *sides, note="there is no production version yet, so the comparison holds")
    if math.isnan(sides[0]) or math.isnan(sides[1]):
        return Compared(not positive, *sides, note="a side is not a number: it divides by zero or mixes infinities")
    return Compared(_COMPARE[type(op)](sides[0], sides[1]), *sides)


def _value(node: ast.expr, metrics: Metrics) -> float | None:
    """The number that a side stands for; NaN for a division by zero; None when it needs an absent production."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name):
            return float(metrics.candidate[name])
        case ast.Attribute(attr=name):
            return None if metrics.production is None else float(metrics.production[name])
        case ast.UnaryOp():
            operand = _value(node.operand, metrics)
            return -operand if operand is not None and isinstance(node.op, ast.USub) else operand
        case ast.BinOp():
            left, right = _value(node.left, metrics), _value(node.right, metrics)
            if left is None or right is None:
                return None
            if isinstance(node.op, ast.Div) and right == 0:
                return math.nan
            return _ARITHMETIC[type(node.op)](left, right)
    raise AssertionError(ast.dump(node))  # parse() lets nothing else through
