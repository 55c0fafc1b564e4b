"""The drift report as one HTML page that needs nothing else: a table, and for each column its bins before and after as inline SVG.

Does not know: how drift is measured (`drift_report`), or whose columns these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from bedplate.models.drift_report import Bin, ColumnDrift

WIDTH: Final = 860
HEIGHT: Final = 200
LEFT: Final = 48
FOOT: Final = 64
_LABEL_CHARS: Final = 14

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --line: #d1d9e0; --before: #8aa4bf; --after: #b4572d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --line: #3d444d; --before: #6f88a3;
 --after: #e08a5f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
 max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p { color: var(--soft); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td.number { text-align: right; } tr.moved td { font-weight: 600; } svg { width: 100%; height: auto; display: block; }
text { fill: var(--soft); font-size: 11px; } .axis { stroke: var(--line); } a { color: inherit; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
"""


def page(before: str, after: str, rows: tuple[int, int], columns: Sequence[ColumnDrift]) -> str:
    """The whole page: `before` and `after` name the samples, `rows` says how many rows each has. The columns that moved most come first."""
    ranked = sorted(columns, key=lambda each: -(each.psi if each.psi is not None else -1.0))
    title = f"Drift from {before} to {after}"
    key = "".join(
        f'<span class="key" style="background:var(--{name})"></span>{escape(which)}, {count} rows'
        for name, which, count in (("before", before, rows[0]), ("after", after, rows[1]))
    )
    note = "PSI below 0.1 is stable, above 0.25 has moved, by custom. Numbers lie in the deciles of the former sample."
    charts = [(escape(each.column), escape(each.told), _chart(each.bins)) for each in ranked if each.bins]
    sections = "".join(f'<h2 id="{column}">{column}</h2><p>{told}</p>{chart}' for column, told, chart in charts)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = f"<h1>{escape(title)}</h1><p>{key}</p>{_table(ranked)}<p>{note}</p>{sections}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _table(columns: Sequence[ColumnDrift]) -> str:
    rows = "".join(
        f'<tr class="{each.verdict.strip("-")}"><td><a href="#{escape(each.column)}">{escape(each.column)}</a></td><td>{each.kind}</td>'
        f"{_number(each.psi)}{_number(each.ks)}<td class=number>{each.nulls_before:.1%} → {each.nulls_after:.1%}</td>"
        f"<td>{each.verdict}</td><td>{escape(each.told)}</td></tr>"
        for each in columns
    )
    head = "".join(f"<th>{name}</th>" for name in ("column", "kind", "PSI", "KS", "null", "verdict", ""))
    return f"<table><tr>{head}</tr>{rows}</table>"


def _number(value: float | None) -> str:
    return f"<td class=number>{'-' if value is None else f'{value:.3f}'}</td>"


def _chart(bins: Sequence[Bin]) -> str:
    """Two bars a bin, side by side; height is the share of the rows."""
    most = max(max(each.before, each.after) for each in bins) or 1.0
    wide, tall = (WIDTH - LEFT) / len(bins), HEIGHT - FOOT
    drawn = []
    for index, each in enumerate(bins):
        x = LEFT + index * wide
        for side, (name, share) in enumerate((("before", each.before), ("after", each.after))):
            high = share / most * (tall - 8)
            drawn.append(
                f'<rect x="{x + (0.1 + 0.4 * side) * wide:.1f}" y="{tall - high:.1f}" width="{0.38 * wide:.1f}" height="{high:.1f}" '
                f'fill="var(--{name})"><title>{escape(each.label)}: {name} {share:.2%}</title></rect>'
            )
        label = each.label if len(each.label) <= _LABEL_CHARS else each.label[: _LABEL_CHARS - 1] + "…"
        place = f"{x + wide / 2:.1f} {tall + 12}"
        drawn.append(f'<text text-anchor="end" transform="translate({place}) rotate(-35)">{escape(label)}</text>')
    axis = f'<line class="axis" x1="{LEFT}" y1="{tall}" x2="{WIDTH}" y2="{tall}"/>'
    scale = f'<text x="{LEFT - 6}" y="12" text-anchor="end">{most:.1%}</text><text x="{LEFT - 6}" y="{tall}" text-anchor="end">0</text>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{axis}{scale}{"".join(drawn)}</svg>'
