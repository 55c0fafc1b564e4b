"""Where keys are kept: below the state folder, one file for all endpoints of a project."""

from __future__ import annotations

from pathlib import Path

from bedplate.core.clock import SimClock
from bedplate.flow.access import key_file


def test_keys_are_those_of_one_project(tmp_path: Path) -> None:
    key_file(tmp_path / "one").add("web", None, SimClock())
    assert [key.name for key in key_file(tmp_path / "one").listed()] == ["web"]
    assert key_file(tmp_path / "two").listed() == []
    assert [path.name for path in (tmp_path / "one").rglob("*.json")] == ["endpoints.json"]
