"""`bedplate approve`: what a person sees; the decision itself is tested in tests/flow/test_approving.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, refused

PROJECT = """
project: small
jobs:
  fit: {function: fit.py:fit, inputs: {spine: rows, columns: [size], label: rows.amount}}
datasets:
  rows: {source: rows.csv, key: [id], known_at: at, backfill: trusted, columns: {id: int, at: timestamp, size: float, amount: float}}
models:
  amount: {from: fit, evaluate: fit.py:evaluate, predict: fit.py:predict, promote: {when: ["mae < 100"], approvals: 2}}
"""
FIT = """
import torch


def fit(run):
    return run.save(torch.nn.Linear(1, 1))


def predict(version, rows):
    return [0.0 for _ in rows]


def evaluate(version, feed):
    return {"rows": {"mae": feed.columns("test")["amount"]}}
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A project whose first version waits for two people."""
    rows = "".join(f"{n},2024-01-{1 + n // 24:02d}T{n % 24:02d}:00:00,{n % 7},{n % 5}\n" for n in range(100))
    for name, text in {"bedplate.yaml": PROJECT, "fit.py": FIT, "rows.csv": f"id,at,size,amount\n{rows}"}.items():
        (tmp_path / name).write_text(text)
    done = bedplate(tmp_path, "up", "amount")
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_two_people_approve_and_the_alias_moves(waiting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    said = bedplate(waiting, "approve", "amount@1", "--reason", "looked at it").stdout
    assert said == "amount@1 was approved by ann; 1 more person must approve\n"
    assert "you approved it already" in refused(waiting, "approve", "amount@1", "--reason", "again")
    monkeypatch.setenv("LOGNAME", "bob")
    last = as_json(waiting, "approve", "amount@1", "--reason", "so did I")
    assert last == {"version": "amount@1", "alias": "production", "people": ["ann", "bob"], "missing": "", "moved": True}
    assert as_json(waiting, "lineage", "amount@production")["title"].startswith("model amount@1")
    assert "is in production already" in refused(waiting, "approve", "amount@1", "--reason", "more")
    assert bedplate(waiting, "approve", "amount@1").returncode == 2, "the reason is not optional"
