"""`bedplate keys`: made, listed without the secret, taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, refused


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text("project: keys\n")
    return tmp_path


def test_a_key_is_made_listed_and_taken_back(project: Path) -> None:
    assert "no keys" in bedplate(project, "keys", "list").stdout
    made = as_json(project, "keys", "add", "web", "--rate", "50")
    assert (made["name"], made["rate"]) == ("web", 50.0)
    assert made["key"].startswith("bp_")
    listed = bedplate(project, "keys", "list").stdout
    assert "web" in listed and "50/s" in listed and made["key"] not in listed
    assert "there is a key of this name" in refused(project, "keys", "add", "web")
    assert as_json(project, "keys", "revoke", "web") == {"name": "web", "revoked": True}
    assert "no key of this name" in refused(project, "keys", "revoke", "web")
    assert as_json(project, "keys", "list") == []
