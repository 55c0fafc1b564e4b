"""The little language of promotion rules: comparisons of metrics, such as `rmse <= production.rmse * 1.01`.

The grammar is Python's, cut down to numbers, names, `production.NAME`, `+ - * /`, comparisons (chained ones too), parentheses and
`and or not`; with `max`, `min`, `mean` and `gap` of `slice.GROUP.METRIC`, `drift.psi(COLUMN)` and `drift.ks(COLUMN)`. A rule of one
comparison may end in `with 95% confidence`. Text is parsed with `ast` and walked here; nothing is ever handed to an interpreter.
Does not know: which rules a model has, what follows when one holds (`gate`), or how a value was measured.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bedplate.core.errors import SpecError, nearest
from bedplate.models.reading import DRIFTS, FOLDS, PRODUCTION, SLICE, Metrics, Read, read

MAX_CHARS = 500
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
_CONFIDENCE = re.compile(r"\s+with\s+(\d{1,2}(?:\.\d{1,4})?)\s*%\s+confidence\s*$")


@dataclass(frozen=True)
class Compared:
    """One comparison. A side is None where it has no value; `note` says why the comparison counts as it does."""

    holds: bool
    left: float | None
    right: float | None
    note: str = ""


@dataclass(frozen=True)
class Rule:
    """A parsed rule. `confidence` is what a claimed difference asks for, as a fraction of 1; None: the values themselves are compared."""

    text: str
    tree: ast.expr
    confidence: float | None = None

    @property
    def reads(self) -> tuple[Read, ...]:
        """Everything that it takes from an evaluation, in the order of the text."""
        return tuple(_reads(self.tree))


def parse(text: str) -> Rule:
    """A rule. Raises SpecError that shows the first piece outside the grammar, and the fix."""
    if len(text) > MAX_CHARS:
        raise SpecError("a rule is too long", field=FIELD, value=text[:40] + "…", fix=f"use at most {MAX_CHARS} characters")
    claimed = _CONFIDENCE.search(text)
    plain = text[: claimed.start()] if claimed else text
    try:
        tree = ast.parse(plain.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError("a rule is not an expression", field=FIELD, value=text, fix=_EXAMPLE) from error
    _check_truth(tree, plain)
    if claimed is None:
        return Rule(text, tree)
    return Rule(text, tree, _confidence(text, tree, float(claimed[1]) / 100))


def _confidence(text: str, tree: ast.expr, confidence: float) -> float:
    directed = isinstance(tree, ast.Compare) and len(tree.ops) == 1 and isinstance(tree.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    if not directed:
        fix = "write one comparison with < <= > or >= as a rule of its own"
        raise SpecError("confidence is of one comparison", field=FIELD, value=text, fix=fix)
    if not 0.5 <= confidence < 1:
        raise SpecError("a confidence must be from 50 to below 100 percent", field=FIELD, value=text, fix="write 95%")
    known = [piece for piece in _reads(tree) if piece.of_rows]
    if len(known) != len(_reads(tree)) or not known:
        fix = "compare metrics and slices; a latency, a size or a drift has no rows to draw from"
        raise SpecError("confidence needs values that are computed from rows", field=FIELD, value=text, fix=fix)
    return confidence


def judge(rule: Rule, metrics: Metrics) -> tuple[bool, list[Compared]]:
    """Whether a parsed rule holds, and every comparison in it, in the order of the text. Its confidence is not looked at.

    A comparison that mentions an absent production counts in favor of the rule, also below `not`. One with a side that is no number
    (NaN, a division by zero) counts against it. Raises SpecError for a metric that nobody reported.
    """
    for piece in rule.reads:
        _value_of(piece, metrics)
    compared: list[Compared] = []
    return _truth(rule.tree, metrics, compared, True), compared


def sides(rule: Rule, metrics: Metrics) -> tuple[float | None, float | None]:
    """The two sides of a rule of one comparison. Raises SpecError for a metric that nobody reported."""
    assert isinstance(rule.tree, ast.Compare)  # parse() lets no other have a confidence
    return _value(rule.tree.left, metrics), _value(rule.tree.comparators[0], metrics)


def claims_less(rule: Rule) -> bool:
    """Whether a rule of one comparison says that its left side is the smaller one."""
    assert isinstance(rule.tree, ast.Compare)
    return isinstance(rule.tree.ops[0], ast.Lt | ast.LtE)


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
    if read(node) is not None:
        return
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if abs(value) > 1e300:
                raise _refused(node, text, "use a number below 1e300")
        case ast.Name() | ast.Attribute() | ast.Call() | ast.Subscript():
            raise _refused(node, text, _naming(node))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            _check_number(node.operand, text)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            _check_number(node.left, text)
            _check_number(node.right, text)
        case _:
            raise _refused(node, text, "use numbers, metric names, production.NAME, + - * / and parentheses")


def _naming(node: ast.expr) -> str:
    """The fix for a name, an attribute or a call that is no value of an evaluation."""
    match node:
        case ast.Name(id=name) if name == PRODUCTION:
            return f"name a metric of it, for example {PRODUCTION}.rmse"
        case ast.Attribute(value=ast.Name(id=name)) if name not in (PRODUCTION, SLICE, "drift"):
            return f"only {PRODUCTION} has metrics by name: write {node.attr} or {PRODUCTION}.{node.attr}"
        case ast.Call(func=ast.Name(id=name)) if name in FOLDS:
            return f"write {name}(slice.GROUP.METRIC), for example {name}(slice.carrier.rmse)"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="drift"))):
            return f"write drift.{' or drift.'.join(DRIFTS)} of one column, for example drift.psi(dep_delay)"
        case ast.Call():
            return f"use {', '.join(FOLDS)} of slice.GROUP.METRIC, or drift.psi(COLUMN)"
    if SLICE in ast.dump(node):
        return 'write max(slice.GROUP.METRIC), or slice.GROUP["VALUE"].METRIC for one of them'
    return "use numbers, metric names, production.NAME, + - * / and parentheses"


def _refused(node: ast.expr, text: str, fix: str) -> SpecError:
    piece = ast.get_source_segment(text.strip(), node) or text
    return SpecError(f"a rule cannot hold {piece!r}", field=FIELD, value=text, fix=fix)


def _reads(node: ast.expr) -> list[Read]:
    """Every value of an evaluation below `node`, in the order of the text; what is below one of them is part of it."""
    found: list[Read] = []
    stack: list[ast.AST] = [node]
    while stack:  # no recursion: a rule may be as deep as it is long
        each = stack.pop()
        piece = read(each) if isinstance(each, ast.expr) else None
        if piece is not None:
            found.append(piece)
        else:
            stack.extend(reversed(list(ast.iter_child_nodes(each))))
    return found


def _value_of(piece: Read, metrics: Metrics) -> float | None:
    """Raises SpecError, with the nearest names, for what was not measured."""
    try:
        return piece.value(metrics)
    except KeyError as error:
        name, known = error.args
        whose = "production" if piece.production else "the candidate"
        raise SpecError(f"{whose} has no such {piece.noun}", field=FIELD, value=name, fix=nearest(str(name), known)) from error


def _truth(node: ast.expr, metrics: Metrics, compared: list[Compared], positive: bool) -> bool:
    """`positive` is False below an odd number of `not`: there, what counts in favor of the rule is a comparison that does not hold."""
    match node:
        case ast.BoolOp():
            values = [_truth(value, metrics, compared, positive) for value in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.UnaryOp():
            return not _truth(node.operand, metrics, compared, not positive)
        case ast.Compare():
            chain = [node.left, *node.comparators]
            pairs = [_pair(*pair, metrics, positive) for pair in zip(chain, node.ops, chain[1:], strict=False)]
            compared.extend(pairs)
            return all(pair.holds for pair in pairs)
    raise AssertionError(ast.dump(node))  # parse() lets nothing else through


def _pair(left: ast.expr, op: ast.cmpop, right: ast.expr, metrics: Metrics, positive: bool) -> Compared:
    pieces = [*_reads(left), *_reads(right)]
    values = _value(left, metrics), _value(right, metrics)
    for piece in pieces:
        measured = _value_of(piece, metrics)
        if measured is not None and math.isnan(measured):
            return Compared(not positive, *values, note=f"{piece.text} is not a number (NaN)")
    if values[0] is None or values[1] is None:
        return Compared(positive, *values, note="there is no production version yet, so the comparison holds")
    if math.isnan(values[0]) or math.isnan(values[1]):
        return Compared(not positive, *values, note="a side is not a number: it divides by zero or mixes infinities")
    return Compared(_COMPARE[type(op)](values[0], values[1]), *values)


def _value(node: ast.expr, metrics: Metrics) -> float | None:
    """The number, or None where it depends on an absent production."""
    found = read(node)
    if found is not None:
        return _value_of(found, metrics)
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp():
            inner = _value(node.operand, metrics)
            return inner if inner is None or isinstance(node.op, ast.UAdd) else -inner
        case ast.BinOp():
            sides = _value(node.left, metrics), _value(node.right, metrics)
            if sides[0] is None or sides[1] is None:
                return None
            return math.nan if isinstance(node.op, ast.Div) and sides[1] == 0 else _ARITHMETIC[type(node.op)](sides[0], sides[1])
    raise AssertionError(ast.dump(node))  # parse() lets nothing else through
