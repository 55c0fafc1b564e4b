"""Drift between versions: which rows are compared, and which columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.errors import BedplateError, NotFound
from bedplate.data.streams.log import Log
from bedplate.flow.drifting import drift
from bedplate.flow.workspace import open_workspace
from cli.kit import bedplate

PROJECT = """
project: shop
datasets:
  sales:
    source: sales.csv
    subject: who
    columns: {id: int, at: timestamp, who: string, shop: string, amount: float, big: bool}
    derive: {double: amount * 2}
  visits: {source: "log://visits", columns: {n: int}}
"""


def write(folder: Path, shift: int) -> None:
    rows = [f"{n},2024-01-{n % 28 + 1:02}T00:00:00Z,p{n},s{(n + shift) % 3},{n + shift},{str(n > 20).lower()}" for n in range(60)]
    (folder / "sales.csv").write_text("\n".join(["id,at,who,shop,amount,big", *rows, ""]))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text(PROJECT)
    return tmp_path


def test_columns_of_a_file_are_compared_but_not_who_it_is_about(shop: Path) -> None:
    for shift in (0, 40):
        write(shop, shift)
        assert bedplate(shop, "run", "sales").returncode == 0
    with open_workspace(shop) as workspace:
        found = drift(workspace, "sales@1", "sales@2")
        assert (found.before, found.after, found.rows, found.since) == ("sales@1", "sales@2", (60, 60), False)
        verdicts = {each.column: (each.kind, each.verdict) for each in found.columns}
        assert verdicts == {
            "id": ("number", "stable"),
            "at": ("time", "stable"),
            "shop": ("category", "stable"),
            "amount": ("number", "moved"),
            "big": ("category", "stable"),
            "double": ("number", "moved"),
        }
        with pytest.raises(NotFound):
            drift(workspace, "sales@1", "sales@9")
        with pytest.raises(BedplateError):
            drift(workspace, "sales@1", "other")


def test_of_a_stream_what_came_since_is_compared_with_what_was_before(shop: Path) -> None:
    log = Log(shop / ".bedplate" / "log" / "visits", SystemClock())
    for first, last in ((0, 50), (50, 70)):
        log.append([json.dumps({"n": n}).encode() for n in range(first, last)], producer="p", sequence=first)
        assert bedplate(shop, "run", "visits").returncode == 0
    with open_workspace(shop) as workspace:
        found = drift(workspace, "visits@1", "visits")
        assert (found.rows, found.since, found.columns[0].ks) == ((50, 20), True, 1.0)
        back = drift(workspace, "visits@2", "visits@1")
        assert (back.rows, back.since) == ((70, 50), False)
