"""A project with a file, a stream and a feature, brought up twice with other data in between: what tests of versions start from.

sales@1   ids 1, 2, 3           clicks@1   ids 0 to 29, of which 9, 19 and 29 are in quarantine
sales@2   ids 2 (changed), 3, 4  clicks@2   ids 0 to 49, of which 9, 19, 29, 39 and 49 are in quarantine
"""

from __future__ import annotations

import json
from pathlib import Path

from bedplate.core.clock import SystemClock
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from cli.kit import bedplate

PROJECT = """
project: sales
datasets:
  sales: {source: sales.csv, key: [id], known_at: at, columns: {id: int, shop: string, at: timestamp, amount: float}}
  clicks: {source: "log://clicks", key: [id], known_at: at, columns: {id: int, at: timestamp}}
features:
  totals: {from: sales, entity: shop, windows: [1d], aggregates: {amount: [sum]}}
"""
FIRST = ((1, 1.0), (2, 2.0), (3, 3.0))
SECOND = ((2, 2.5), (3, 3.0), (4, 4.0))


def write_sales(folder: Path) -> Path:
    """The project, with two versions of everything."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bedplate.yaml").write_text(PROJECT)
    for rows, end in ((FIRST, 30), (SECOND, 50)):
        sell(folder, rows)
        click(folder, end)
        done = bedplate(folder, "up")
        assert done.returncode == 0, done.stdout + done.stderr
    assert bedplate(folder, "down").returncode == 0
    return folder


def sell(folder: Path, rows: tuple[tuple[int, float], ...]) -> None:
    """Write the file of sales."""
    lines = [f"{number},north,2024-01-0{number}T00:00:00Z,{amount}" for number, amount in rows]
    (folder / "sales.csv").write_text("\n".join(["id,shop,at,amount", *lines]) + "\n")


def click(folder: Path, end: int) -> None:
    """Append to the stream until it has `end` records; every tenth does not fit."""
    log = Log(folder / ".bedplate" / "log" / "clicks", SystemClock())
    start = log.next_sequence("p")
    log.append([_click(number) for number in range(start, end)], producer="p", sequence=start)


def ids(folder: Path, table: str, version: int | None = None) -> list[int]:
    """The ids in a table, at a commit or the newest."""
    return sorted(Lake(folder / ".bedplate" / "lake").read(table, version)["id"].to_pylist())


def good(end: int) -> list[int]:
    """The ids of the clicks before `end` that fit."""
    return [number for number in range(end) if number % 10 != 9]


def _click(number: int) -> bytes:
    return json.dumps({"id": None if number % 10 == 9 else number, "at": "2024-01-01T00:00:00Z"}).encode()
