"""The report: one HTML page that needs nothing else, with charts as inline SVG, readable in light and dark.

Does not know: how what it shows was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

WIDTH: Final = 860
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 40
MOST_BARS: Final = 48

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #ffffff; --line: #d1d9e0;
 --compute: #2f6fb3; --communication: #b4572d; --input: #2b8a5f; --checkpoint: #8a4fbf; --optimizer: #6f9fd8; --host: #8b949e;
 --input_wait: var(--input); --checkpoint_stall: var(--checkpoint); --lost_work: #c23b4b; --recovery: #d98b3a; --start_up: #b8a13a;
 --idle: var(--host); --bar: var(--compute); }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117;
 --line: #3d444d; --compute: #5a9bdc;
 --communication: #e08a5f; --input: #4fb98a; --checkpoint: #b98ae6; --optimizer: #a5c8f0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
 max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
.first { border-left: 4px solid var(--communication); padding-left: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
 vertical-align: top; } td.number { text-align: right; white-space: nowrap; } svg { width: 100%; height: auto; display: block; }
text { fill: var(--soft); font-size: 12px; } .axis { stroke: var(--line); } .key { display: inline-block; width: .8em; height: .8em;
 margin: 0 .3em 0 1em; } p.note { color: var(--soft); }
"""


@dataclass(frozen=True)
class Section:
    """A heading, and what stands below it, as HTML."""

    heading: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    shown = "".join(f"<h2>{escape(section.heading)}</h2>{section.body}" for section in sections)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{lead}{shown}</body></html>\n'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers stand to the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    return f"<table><tr>{head}</tr>{''.join('<tr>' + ''.join(map(_cell, row)) + '</tr>' for row in rows)}</table>"


def stacked(parts: Mapping[str, Sequence[float]], labels: Sequence[str], *, across: str, unit: str, height: int = 240) -> str:
    """Bars that stand side by side, each stacked from its parts. `across` says what a bar is, `unit` that of the values."""
    count = len(labels)
    most = max((sum(values[index] for values in parts.values()) for index in range(count)), default=0.0) or 1.0
    plot_width, plot_height = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    bar = plot_width / max(1, count)
    drawn = []
    for index in range(count):
        y = float(TOP + plot_height)
        for name, values in parts.items():
            tall = values[index] / most * plot_height
            y -= tall
            if tall > 0.05:
                told = escape(f"{labels[index]}: {name} {values[index]:.4g} {unit}")
                drawn.append(
                    f'<rect x="{LEFT + index * bar:.1f}" y="{y:.1f}" width="{max(0.5, bar * 0.92):.1f}" height="{tall:.1f}" '
                    f'fill="var(--{name})"><title>{told}</title></rect>'
                )
    every = max(1, count // 12)
    names = [
        f'<text x="{LEFT + (index + 0.46) * bar:.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{escape(labels[index])}</text>'
        for index in range(0, count, every)
    ]
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{_axes(most, across, unit, height)}{"".join(drawn + names)}</svg>{key(parts)}'


def bars(rows: Sequence[tuple[str, float]], *, unit: str, zero: float = 0.0) -> str:
    """Bars that lie below one another, the first `MOST_BARS` of them; their length counts from `zero`."""
    shown = rows[:MOST_BARS]
    height = 22 * len(shown) + BOTTOM
    most = max((value - zero for _, value in shown), default=0.0) or 1.0
    left, plot_width = 190, WIDTH - 190 - 90
    drawn = []
    for index, (name, value) in enumerate(shown):
        long, y = max(0.0, value - zero) / most * plot_width, 22 * index + 4
        drawn.append(
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left}" y="{y}" width="{long:.1f}" height="15" fill="var(--{_css(name)}, var(--bar))"></rect>'
            f'<text x="{left + long + 6:.1f}" y="{y + 12}">{value:.4g} {unit}</text>'
        )
    axis = f'<line class="axis" x1="{left}" y1="0" x2="{left}" y2="{height - BOTTOM + 6}"/>'
    foot = f'<text x="{left}" y="{height - 16}" text-anchor="middle">{zero:g}</text>'
    foot += f'<text x="{left + plot_width}" y="{height - 16}" text-anchor="middle">{zero + most:.4g} {unit}</text>'
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{axis}{"".join(drawn)}{foot}</svg>'


def key(names: Mapping[str, Any]) -> str:
    """Which color is which."""
    shown = "".join(f'<span class="key" style="background:var(--{name})"></span>{escape(name.replace("_", " "))}' for name in names)
    return f"<p class=note>{shown}</p>"


def _axes(most: float, across: str, unit: str, height: int) -> str:
    plot_height = height - TOP - BOTTOM
    lines = []
    for part in range(5):
        y = TOP + plot_height * (1 - part / 4)
        lines.append(f'<line class="axis" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * part / 4:.3g}</text>')
    lines.append(f'<text x="{LEFT}" y="{height - 4}">{escape(across)}; height in {escape(unit)}</text>')
    return "".join(lines)


def _css(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum() or letter in "_-") or "bar"


def _cell(value: Any) -> str:
    kind = ' class="number"' if isinstance(value, int | float) or str(value)[:1].isdigit() else ""
    return f"<td{kind}>{escape(f'{value:.4g}' if isinstance(value, float) else str(value))}</td>"
