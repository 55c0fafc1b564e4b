"""A project with a model, the table it came from and a ledger that tells of both, made without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bedplate.core.clock import SimClock
from bedplate.core.event import Draft
from bedplate.core.heads import sign_head
from bedplate.data.lake import Lake, Write
from bedplate.flow.workspace import Workspace, open_workspace
from models.evidence import sample

PROJECT = """
project: shop
datasets:
  rows: {source: data/rows.csv, key: [id], known_at: at, subject: person, license: CC0-1.0, residency: EU}
jobs:
  fit:
    function: fit.py:fit
    inputs: {spine: rows, columns: [size], label: rows.price}
models:
  price: {from: fit, evaluate: fit.py:evaluate, predict: fit.py:predict, promote: {to: production, when: ["rmse <= 5"]}}
endpoints:
  prices: {model: price@production}
"""
PERSONS = ("ann", "bob", "cid", "dan", "eve", "fay", "gil")


def table(number: int) -> pa.Table:
    """The rows of one commit: one person each."""
    at = pa.array([number * 1_000_000], pa.timestamp("us", tz="UTC"))
    return pa.table(
        {"id": [number], "at": at, "person": [PERSONS[number - 1]], "size": [number / 2], "price": [float(number)], "flag": [True]}
    )


def fill(state: Path) -> None:
    """Commits 1 to 7 of the table of rows."""
    made = Lake(state / "lake").create("rows", table(1).schema)
    for number in range(1, 8):
        made.write(lambda number=number: Write(table(number), {"mark": number}) if made.recorded("mark") != number else None)


def make_shop(folder: Path, home: Path) -> Workspace:
    """The project, open."""
    folder.mkdir(parents=True)
    (folder / "bedplate.yaml").write_text(PROJECT)
    (folder / "fit.py").write_text("def fit(run): ...\ndef evaluate(version, feed): ...\ndef predict(version, rows): ...\n")
    state = folder / ".bedplate"
    fill(state)
    model = sample.model_version(sample.model_folder(state / "lake" / "price"))
    clock = SimClock(sample.START_S)
    workspace = open_workspace(folder, clock=clock)
    for draft in sample.drafts(model):
        clock.sleep(1.0)
        workspace.ledger.append([draft])
    sign_head(workspace.ledger, home, clock)
    workspace.refresh()
    return workspace


def tell(workspace: Workspace, kind: str, subject: str, payload: Mapping[str, Any]) -> None:
    """One more event."""
    assert isinstance(workspace.clock, SimClock)
    workspace.clock.sleep(1.0)
    workspace.ledger.append([Draft(kind, subject, payload)])
    workspace.refresh()
