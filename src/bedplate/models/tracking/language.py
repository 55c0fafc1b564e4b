"""MLflow's expression language: filters (`metrics.rmse < 1 and params.x = 'a'`) and orders (`metrics.rmse DESC`), parsed here.

A filter is comparisons joined by `and`; there is no `or` and there are no parentheses but those of a list. A comparison names a kind of
thing (metrics, params, tags, attributes, datasets; none: an attribute), a key, which is quoted by ` or " where it holds other characters,
an operator and a literal. The grammar and what may be compared with what are those of https://mlflow.org/docs/latest/search-runs.
`matches` evaluates a filter on values in memory; `search` turns one into SQL.
Does not know: where the values come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from bedplate.models.tracking.refusal import Refused, invalid

Literal = float | int | str | tuple[str, ...] | None
KINDS: Mapping[str, str] = {
    **dict.fromkeys(("metrics", "metric"), "metrics"),
    **dict.fromkeys(("params", "param", "parameters", "parameter"), "params"),
    **dict.fromkeys(("tags", "tag"), "tags"),
    **dict.fromkeys(("attributes", "attribute", "attr", "run"), "attributes"),
    **dict.fromkeys(("datasets", "dataset"), "datasets"),
}
ORDERS = frozenset({"=", "!=", "<", "<=", ">", ">="})
TEXTS = frozenset({"=", "!=", "LIKE", "ILIKE"})
LISTS = frozenset({"IN", "NOT IN"})
NULLS = frozenset({"IS NULL", "IS NOT NULL"})
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<quoted>`[^`]*`)
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<operator><=|>=|!=|<>|==|=|<|>)
    |(?P<mark>[(),])
    |(?P<word>[A-Za-z_][\w/:-]*)
    |(?P<dot>\.))""",
    re.VERBOSE,
)


class Comparison(NamedTuple):
    """One comparison: `kind` is metrics, params, tags, attributes or datasets; `value` is None for IS [NOT] NULL."""

    kind: str
    key: str
    operator: str
    value: Literal


class Order(NamedTuple):
    """One part of an order."""

    kind: str
    key: str
    ascending: bool


class _Token(NamedTuple):
    kind: str
    text: str
    end: int


class Attributes(NamedTuple):
    """What of a kind of thing can be compared and ordered by: names of numbers, names of texts, other names for either."""

    numbers: frozenset[str]
    texts: frozenset[str]
    aliases: tuple[tuple[str, str], ...] = ()


RUNS = Attributes(
    frozenset({"start_time", "end_time"}),
    frozenset({"run_id", "run_name", "user_id", "status", "artifact_uri", "lifecycle_stage", "experiment_id"}),
    (*((each, "start_time") for each in ("created", "Created")), *((each, "run_name") for each in ("run name", "Run name", "Run Name"))),
)
EXPERIMENTS = Attributes(frozenset({"creation_time", "last_update_time"}), frozenset({"name", "experiment_id"}))
REGISTERED = Attributes(
    frozenset({"creation_timestamp", "last_updated_timestamp"}), frozenset({"name"}), (("timestamp", "last_updated_timestamp"),)
)
VERSIONS = Attributes(
    frozenset({"version_number", "creation_timestamp", "last_updated_timestamp"}),
    frozenset({"name", "run_id", "source_path", "version"}),
    (("source", "source_path"),),
)
LOGGED_MODELS = Attributes(
    frozenset({"creation_timestamp", "creation_time", "last_updated_timestamp"}),
    frozenset({"name", "model_id", "model_type", "status", "source_run_id", "experiment_id"}),
)
TRACES = Attributes(
    frozenset({"timestamp_ms", "execution_time_ms"}),
    frozenset({"status", "state", "name", "request_id", "trace_id", "run_id", "client_request_id"}),
    (
        *((each, "timestamp_ms") for each in ("timestamp", "request_time")),
        ("execution_time", "execution_time_ms"),
    ),
)


@lru_cache(maxsize=512)
def parse_filter(text: str, attributes: Attributes = RUNS) -> tuple[Comparison, ...]:
    """The comparisons of a filter, all of which must hold; "" has none. Raises Refused, naming what cannot be read."""
    tokens = _tokens(text)
    found: list[Comparison] = []
    place = 0
    while place < len(tokens):
        comparison, place = _comparison(text, tokens, place, attributes)
        found.append(comparison)
        if place < len(tokens):
            if tokens[place].text.upper() != "AND":
                raise _unreadable(text, f"expected 'and' instead of {tokens[place].text!r}")
            place += 1
            if place == len(tokens):
                raise _unreadable(text, "nothing follows the last 'and'")
    return tuple(found)


def parse_orders(texts: Sequence[str], attributes: Attributes = RUNS) -> tuple[Order, ...]:
    """The parts of an order, each of which may end in ASC (as without) or DESC. Raises Refused."""
    found = []
    for text in texts:
        tokens = _tokens(text)
        if not tokens:
            raise invalid(f"Invalid order_by clause '{text}'. Expected a column and, if wanted, ASC or DESC")
        kind, key, place = _identifier(text, tokens, 0, attributes)
        words = [token.text.upper() for token in tokens[place:]]
        if words not in ([], ["ASC"], ["DESC"]):
            raise invalid(f"Invalid ordering key in order_by clause '{text}': expected a column and, if wanted, ASC or DESC")
        found.append(Order(kind, key, words != ["DESC"]))
    return tuple(found)


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    stripped = text.rstrip()
    while place < len(stripped):
        match = _TOKEN.match(stripped, place)
        if match is None or match.lastgroup is None:
            raise _unreadable(text, f"cannot read {stripped[place:].strip()[:40]!r}")
        found.append(_Token(match.lastgroup, match[match.lastgroup], match.end()))
        place = match.end()
    return found


def _identifier(text: str, tokens: Sequence[_Token], place: int, attributes: Attributes) -> tuple[str, str, int]:
    """The kind and key that begin at `place`, and the place after them."""
    parts: list[_Token] = []
    end = place
    while end < len(tokens):
        token = tokens[end]
        glued = not parts or token.end - len(token.text) == tokens[end - 1].end
        if not glued or token.kind not in ("word", "quoted", "dot", "text", "number"):
            break
        parts.append(token)
        end += 1
    if not parts:
        raise _unreadable(text, "a column is missing")
    kind = KINDS.get(parts[0].text) if len(parts) > 2 and parts[1].kind == "dot" and parts[0].kind == "word" else None
    if kind is None and len(parts) > 2 and parts[0].kind == "word" and parts[1].kind == "dot":
        known = ", ".join(dict.fromkeys(KINDS.values()))
        raise _unreadable(text, f"Invalid entity type '{parts[0].text}'. Valid values are {known}")
    key_parts = parts[2:] if kind else parts
    key = _unquoted(key_parts[0]) if len(key_parts) == 1 else "".join(each.text for each in key_parts)
    if kind in (None, "attributes"):
        key = dict(attributes.aliases).get(key, key)
        if key not in attributes.numbers | attributes.texts:
            raise _unreadable(text, f"Invalid attribute key '{key}'. Valid keys are {sorted(attributes.numbers | attributes.texts)}")
    return kind or "attributes", key, end


def _unquoted(token: _Token) -> str:
    return token.text[1:-1] if token.kind in ("quoted", "text") else token.text


def _comparison(text: str, tokens: Sequence[_Token], place: int, attributes: Attributes) -> tuple[Comparison, int]:
    kind, key, place = _identifier(text, tokens, place, attributes)
    operator, place = _operator(text, tokens, place)
    if operator in NULLS:
        if kind not in ("params", "tags"):
            raise _unreadable(text, f"'{operator}' is for params and tags")
        return Comparison(kind, key, operator, None), place
    if operator in LISTS:
        values, place = _list(text, tokens, place)
        _check(text, kind, key, operator, attributes)
        return Comparison(kind, key, operator, values), place
    if place >= len(tokens):
        raise _unreadable(text, "a value is missing")
    _check(text, kind, key, operator, attributes)
    return Comparison(kind, key, operator, _literal(text, tokens[place], kind, key, attributes)), place + 1


def _operator(text: str, tokens: Sequence[_Token], place: int) -> tuple[str, int]:
    words = [token.text.upper() for token in tokens[place : place + 3]]
    for spelled in (["IS", "NOT", "NULL"], ["IS", "NULL"], ["NOT", "IN"], ["IN"], ["LIKE"], ["ILIKE"]):
        if words[: len(spelled)] == spelled:
            return " ".join(spelled), place + len(spelled)
    if place < len(tokens) and tokens[place].kind == "operator":
        return {"<>": "!=", "==": "="}.get(tokens[place].text, tokens[place].text), place + 1
    raise _unreadable(text, "a comparison operator is missing")


def _list(text: str, tokens: Sequence[_Token], place: int) -> tuple[tuple[str, ...], int]:
    values: list[str] = []
    if place < len(tokens) and tokens[place].text == "(":
        place += 1
        while place + 1 < len(tokens) and tokens[place].kind == "text":
            values.append(_unquoted(tokens[place]))
            mark = tokens[place + 1].text
            place += 2
            if mark == ")":
                return tuple(values), place
            if mark != ",":
                break
    raise _unreadable(text, "after IN comes a list of texts in parentheses, such as ('a', 'b')")


def _check(text: str, kind: str, key: str, operator: str, attributes: Attributes) -> None:
    numeric = kind == "metrics" or (kind == "attributes" and key in attributes.numbers)
    lists = LISTS if kind in ("attributes", "datasets") else frozenset()
    allowed = ORDERS if numeric else TEXTS | lists
    if operator not in allowed and not (kind == "attributes" and key == "version" and operator in ORDERS):
        raise _unreadable(text, f"Invalid comparator '{operator}' for {kind} '{key}'; use one of {', '.join(sorted(allowed))}")


def _literal(text: str, token: _Token, kind: str, key: str, attributes: Attributes) -> Literal:
    numeric = kind == "metrics" or (kind == "attributes" and key in attributes.numbers)
    if numeric:
        if token.kind != "number":
            raise _unreadable(text, f"Expected numeric value type for {kind} '{key}'. Found {token.text}")
        return int(token.text) if re.fullmatch(r"[-+]?[0-9]{1,18}", token.text) else float(token.text)
    if token.kind not in ("text", "quoted") and not (key == "version" and token.kind == "number"):
        raise _unreadable(text, f"Expected a quoted string value for {kind} '{key}' (e.g. 'my-value'). Got value {token.text}")
    return _unquoted(token)


def _unreadable(text: str, why: str) -> Refused:
    return invalid(f"Invalid clause(s) in filter string: {why}. The filter is: {text}")


def like(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    """A regular expression for an SQL pattern, in which `%` is any text and `_` any character."""
    written = "".join(".*" if each == "%" else "." if each == "_" else re.escape(each) for each in pattern)
    return re.compile(written, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "IN": lambda left, right: left in right,
    "NOT IN": lambda left, right: left not in right,
    "LIKE": lambda left, right: like(right, ignore_case=False).fullmatch(left) is not None,
    "ILIKE": lambda left, right: like(right, ignore_case=True).fullmatch(left) is not None,
}


def matches(comparisons: Sequence[Comparison], values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all comparisons hold for `values`, kind -> key -> value. What is not there fails every comparison but IS NULL."""
    for kind, key, operator, value in comparisons:
        present = values.get(kind, {}).get(key)
        if operator in NULLS:
            if (present is None) != (operator == "IS NULL"):
                return False
        elif present is None or not _COMPARE[operator](
            present if isinstance(present, int | float) and not isinstance(value, str) else str(present), value
        ):
            return False
    return True


def ordered(things: Sequence[Any], orders: Sequence[Order], values: Callable[[Any], Mapping[str, Mapping[str, Any]]]) -> list[Any]:
    """Things in the order that is asked for; what has no value comes last, either way."""
    found = list(things)
    for order in reversed(orders):
        keyed: list[tuple[Any, Any]] = [(values(thing).get(order.kind, {}).get(order.key), thing) for thing in found]
        there = [pair for pair in keyed if pair[0] is not None]
        there.sort(key=itemgetter(0), reverse=not order.ascending)
        found = [thing for _, thing in there] + [thing for value, thing in keyed if value is None]
    return found
