"""The table that every bench prints: what, ours, peer, ratio, bar, and whether the bar is met."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line. `ours` and `peer` are medians in `unit`; `limit` bounds `ours` (absolute) or, with a peer, the ratio ours / peer."""

    what: str
    ours: float
    unit: str
    spread: str = ""
    peer: float | None = None
    peer_name: str = ""
    limit: float | None = None
    higher_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return None if self.peer is None else self.ours / self.peer

    @property
    def met(self) -> str:
        """yes, no, or a dash where there is no bar."""
        if self.limit is None:
            return "-"
        value = self.ratio if self.ratio is not None else self.ours
        return "yes" if (value >= self.limit if self.higher_is_better else value <= self.limit) else "NO"


def median_s(work: Callable[[], object], repeats: int) -> tuple[float, str]:
    """The median wall time of `work` in seconds, and the spread from least to most."""
    times = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - started_s)
    return statistics.median(times), f"{min(times):.3g} to {max(times):.3g}"


def text(rows: list[Row]) -> str:
    """The table in plain text."""
    lines = [("what", "ours", "unit", "spread", "peer", "ratio", "bar", "met")]
    for row in rows:
        peer = f"{row.peer:.3g} ({row.peer_name})" if row.peer is not None else "-"
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        sign = ">=" if row.higher_is_better else "<="
        bar = f"{sign} {row.limit:g}{' x' if row.peer is not None else ''}" if row.limit is not None else "-"
        lines.append((row.what, f"{row.ours:.4g}", row.unit, row.spread, peer, ratio, bar, row.met))
    widths = [max(len(line[column]) for line in lines) for column in range(8)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
