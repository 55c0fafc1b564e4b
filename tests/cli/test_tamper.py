"""Seeded edits of artifacts, manifests, decisions, events and evidence are all found, and named. `--edits` says how many."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import bedplate
from crash.tamper import Specimen, sweep


def test_every_edit_is_found_and_named(still: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    edits = request.config.getoption("--edits")
    assert bedplate(still, "evidence", "amount@1", "--out", "evidence", "--with-model").returncode == 0
    (tmp_path / "copies").mkdir()
    specimen = Specimen(still, still / "evidence", tmp_path / "copies")
    counts = sweep(specimen, range(edits))
    print(f"\n{sum(counts.values())} edits found and named: {counts}")
    assert sum(counts.values()) == edits
    assert set(counts) == {"artifact", "manifest", "event", "decision", "head", "evidence"}
    for words in (("audit", "verify", "--artifacts"), ("evidence", "verify", "evidence")):
        assert bedplate(still, *words).returncode == 0, "undone, everything holds again"
