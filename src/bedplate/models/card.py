"""The model card: what the ledger knows of a model version, as Markdown.

Only facts that were recorded are written; what only a person can know is marked as theirs to write.
Does not know: where the facts come from, or how the card is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

TO_WRITE = "_For a person to write._"

_PERSONAL: Mapping[str, str] = {
    "Intended use": "Which decisions this model supports, for whom, and for which it must not be used.",
    "Limitations": "Where it is known to be wrong: conditions, groups and times that the data does not cover.",
    "Ethical considerations": "Who could be harmed by a wrong answer, and what was done about it.",
}


def card(facts: Mapping[str, Any]) -> str:
    """The card of one version. `name` and `number` are needed; a section whose facts are absent is left out.

    Known facts: `run`, `digest`, `created_at`, `data` (a list of {name, version, rows, role}), `rows`, `splits`, `features`, `params`,
    `metrics`, `production` (its reference), `production_metrics`, `pinned_set`, `decision` (the gate's JSON), `code` ({commit, dirty,
    digest}), `environment`, `hardware`, `origin` (mappings), `seconds` (of training), `removed` (who, when and why).
    Raises KeyError without a name or number.
    """
    parts = [
        f"# {_text(facts['name'])}@{_text(facts['number'])}",
        _section("Removed", [f"{_text(facts['removed'])}."] if facts.get("removed") else []),
        _section("Origin", _origin(facts)),
        _section("Data", _data(facts)),
        _section("Features", [f"- {_text(feature)}" for feature in facts.get("features") or ()]),
        _section("Parameters", _table(("parameter", "value"), sorted((facts.get("params") or {}).items()))),
        _section("Metrics", _metrics(facts)),
        _section("Decision", _decision(facts.get("decision"))),
        _section("Hardware", _pairs(facts.get("hardware") or {})),
        *(_section(title, [f"{TO_WRITE} {hint}"]) for title, hint in _PERSONAL.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines) if lines else ""


def _origin(facts: Mapping[str, Any]) -> list[str]:
    code = facts.get("code") or {}
    seconds = facts.get("seconds")
    values = {
        "run": facts.get("run"),
        "digest": facts.get("digest"),
        **(facts.get("origin") or {}),
        "created": facts.get("created_at"),
        "trained for": None if seconds is None else f"{seconds:.1f} s",
        "code commit": code.get("commit"),
        "uncommitted changes": code.get("dirty"),
        "code digest": code.get("digest"),
        **{f"environment: {name}": value for name, value in sorted((facts.get("environment") or {}).items())},
    }
    return _pairs(values)


def _data(facts: Mapping[str, Any]) -> list[str]:
    cuts = [(cut["name"], cut.get("version"), cut.get("rows"), cut.get("role")) for cut in facts.get("data") or ()]
    totals = _pairs({"rows": facts.get("rows"), **{f"rows, {name}": rows for name, rows in (facts.get("splits") or {}).items()}})
    return [*_table(("table", "version", "rows", "role"), cuts), *([""] if cuts and totals else []), *totals]


def _metrics(facts: Mapping[str, Any]) -> list[str]:
    candidate = facts.get("metrics") or {}
    production = facts.get("production_metrics") or {}
    title = f"production {_text(facts['production'])}" if facts.get("production") else "production"
    header = ("metric", "this version", title) if production else ("metric", "this version")
    names = sorted({*candidate, *production})
    rows = [(name, candidate.get(name), *((production.get(name),) if production else ())) for name in names]
    note = ["", f"Evaluated on {_text(facts['pinned_set'])}."] if rows and facts.get("pinned_set") else []
    return [*_table(header, rows), *note]


def _decision(decision: Mapping[str, Any] | None) -> list[str]:
    if decision is None:
        return []
    header = ("text", "holds", "left", "right", "note")
    checks = _table(("rule", *header[1:]), [[check[name] for name in header] for check in decision["checks"]])
    return [f"{_text(decision['why'])}.", *(["", *checks] if checks else [])]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"- {name}: {_text(value)}" for name, value in values.items() if value is not None]


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    if not rows:
        return []
    lines = [header, ["---"] * len(header), *[[_text(value) for value in row] for row in rows]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _text(value: Any) -> str:
    """A fact on one line, with nothing in it that Markdown takes for a cell's end or for HTML."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(each) for each in value)
    line = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(str(value).split()))
    return line.replace("|", "\\|")
