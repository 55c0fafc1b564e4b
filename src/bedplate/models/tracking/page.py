"""One HTML page that compares runs and needs nothing else: a table, parallel coordinates, the curves of the metrics, as inline SVG.

A few lines of script show one run at a time; without them the page says the same.
Does not know: where the values come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 860
HEIGHT: Final = 260
EDGE: Final = 56
MOST_AXES: Final = 12
_COLORS: Final = ("#2f6fb3", "#b4572d", "#2b8a5f", "#8a4fbf", "#b8a13a", "#c23b4b", "#3aa3a8", "#6b7280")
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #ffffff; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --line: #3d444d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
body { max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
tr.differs td:first-child { font-weight: 600; }
svg { width: 100%; height: auto; display: block; } text { fill: var(--soft); font-size: 11px; }
.axis { stroke: var(--line); } .run { fill: none; stroke-width: 1.8; } .run.faded { opacity: .12; } .key { cursor: pointer; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .35em; } .scroll { overflow-x: auto; }
"""
_SCRIPT: Final = """
for (const key of document.querySelectorAll('[data-key]')) {
  const mark = on => document.querySelectorAll('[data-run]').forEach(
    line => line.classList.toggle('faded', on && line.dataset.run !== key.dataset.key));
  key.addEventListener('mouseenter', () => mark(true));
  key.addEventListener('mouseleave', () => mark(false));
}
"""

Value = str | float | None
Curve = Sequence[tuple[int, float]]


class Axis(NamedTuple):
    """One axis of the parallel coordinates: a param or a metric, and its value of each run."""

    name: str
    values: tuple[Value, ...]


def page(title: str, names: Sequence[str], axes: Sequence[Axis], curves: Mapping[str, Sequence[Curve]]) -> str:
    """The page for runs called `names`; each axis and each metric's curves have an entry a run."""
    keys = " ".join(
        f'<span class="key" data-key="{place}"><span class="swatch" style="background:{color_of(place)}"></span>{escape(name)}</span>'
        for place, name in enumerate(names)
    )
    drawn = [f"<h2>{escape(name)}</h2>{curve_plot(lines)}" for name, lines in curves.items() if any(len(line) > 1 for line in lines)]
    differing = [axis for axis in axes if len({str(value) for value in axis.values}) > 1][:MOST_AXES]
    parallel = f"<h2>Where they differ</h2>{parallel_plot(differing)}" if len(differing) > 1 else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1><p>{keys}</p>{parallel}<h2>All values</h2>{_table(names, axes)}{''.join(drawn)}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def color_of(place: int) -> str:
    """The color of the run in that place."""
    return _COLORS[place % len(_COLORS)]


def shown(value: Value) -> str:
    """A value for people."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _table(names: Sequence[str], axes: Sequence[Axis]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = [
        f"<tr{' class=differs' if len({str(value) for value in axis.values}) > 1 else ''}><td>{escape(axis.name)}</td>"
        + "".join(f"<td>{escape(shown(value))}</td>" for value in axis.values)
        + "</tr>"
        for axis in axes
    ]
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def parallel_plot(axes: Sequence[Axis]) -> str:
    """Parallel coordinates: an upright line an axis, a polyline a run. A number is placed by its size, a text by its rank."""
    across = (WIDTH - 2 * EDGE) / max(len(axes) - 1, 1)
    parts = []
    for place, axis in enumerate(axes):
        x = EDGE + place * across
        low, high = _ends(axis.values)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="30" y2="{HEIGHT - 30}"/>')
        parts.append(f'<text x="{x:.1f}" y="14" text-anchor="middle">{escape(axis.name)}</text>')
        parts.append(f'<text x="{x:.1f}" y="26" text-anchor="middle">{escape(high)}</text>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{escape(low)}</text>')
    count = len(axes[0].values) if axes else 0
    heights = [_heights(axis.values) for axis in axes]
    for run in range(count):
        points = [
            f"{EDGE + place * across:.1f},{HEIGHT - 30 - height[run] * (HEIGHT - 60):.1f}"
            for place, height in enumerate(heights)
            if height[run] is not None
        ]
        parts.append(f'<polyline class="run" data-run="{run}" stroke="{color_of(run)}" points="{" ".join(points)}"/>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _numbers(values: Sequence[Value]) -> list[float | None] | None:
    """The values as numbers, if all that are there are finite ones."""
    found: list[float | None] = []
    for value in values:
        try:
            number = None if value is None else float(value)
        except ValueError:
            return None
        if number is not None and not math.isfinite(number):
            return None
        found.append(number)
    return found


def _heights(values: Sequence[Value]) -> list[float]:
    """Where each value lies on its axis, 0 to 1; what is not there lies at 0."""
    numbers = _numbers(values)
    if numbers is None:
        ranks = sorted({str(value) for value in values if value is not None})
        numbers = [None if value is None else float(ranks.index(str(value))) for value in values]
    there = [number for number in numbers if number is not None]
    low, high = min(there, default=0.0), max(there, default=0.0)
    return [0.0 if number is None else 0.5 if high == low else (number - low) / (high - low) for number in numbers]


def _ends(values: Sequence[Value]) -> tuple[str, str]:
    numbers = _numbers(values)
    if numbers is None:
        ranks = sorted({str(value) for value in values if value is not None})
        return ranks[0], ranks[-1]
    there = [number for number in numbers if number is not None]
    return shown(min(there, default=None)), shown(max(there, default=None))


def curve_plot(lines: Sequence[Curve]) -> str:
    """The curves of one metric over its steps; a value that is no number leaves a gap."""
    finite = [(step, value) for line in lines for step, value in line if math.isfinite(value)]
    if not finite:
        return "<p>no finite value</p>"
    left, right = min(step for step, _ in finite), max(step for step, _ in finite)
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    parts = [f'<line class="axis" x1="{EDGE}" x2="{WIDTH - 10}" y1="{HEIGHT - 30}" y2="{HEIGHT - 30}"/>']
    parts += [
        f'<text x="{EDGE - 6}" y="{y}" text-anchor="end">{escape(shown(value))}</text>' for y, value in ((HEIGHT - 30, low), (20, high))
    ]
    parts += [
        f'<text x="{x}" y="{HEIGHT - 14}" text-anchor="{anchor}">step {step}</text>'
        for x, anchor, step in ((EDGE, "start", left), (WIDTH - 10, "end", right))
    ]
    for place, line in enumerate(lines):
        points = [
            f"{EDGE + (step - left) / max(right - left, 1) * (WIDTH - EDGE - 10):.1f},"
            f"{HEIGHT - 30 - ((value - low) / (high - low) if high > low else 0.5) * (HEIGHT - 50):.1f}"
            for step, value in line
            if math.isfinite(value)
        ]
        parts.append(f'<polyline class="run" data-run="{place}" stroke="{color_of(place)}" points="{" ".join(points)}"/>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
