"""What an import prints."""

from __future__ import annotations

import json

import pytest

from bedplate.cli.importing import show_brought, tell
from bedplate.flow.importing import Brought


def test_what_was_brought_and_what_was_not(capsys: pytest.CaptureFixture[str]) -> None:
    brought = Brought(experiments=1, runs=4, points=11, files=4, versions=2, known=3, left=["artifact x of run y: gone"])
    show_brought(brought, "sqlite:///old.db", False)
    assert capsys.readouterr().out == (
        "sqlite:///old.db: 4 runs with 11 points and 4 files, 2 versions of models; 3 were here already\n"
        "not brought: artifact x of run y: gone\n"
    )
    show_brought(brought, "sqlite:///old.db", True)
    assert json.loads(capsys.readouterr().out)["left"] == ["artifact x of run y: gone"]


def test_progress_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    tell(False)("wine: first")
    tell(True)("wine: first")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
