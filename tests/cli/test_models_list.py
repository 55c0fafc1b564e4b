"""`bedplate models list`."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_versions_with_aliases_origin_and_tags(whole: Path) -> None:
    [first, *_] = as_json(whole, "models", "list", "amount")
    assert (first["version"], first["from"], first["removed"]) == ("amount@1", "fit-1", None)
    assert "production" in first["aliases"]
    text = bedplate(whole, "models", "list").stdout
    assert text.splitlines()[0].split() == ["version", "aliases", "from", "license", "created", "state"]
    assert "amount@1" in text


def test_a_model_without_versions(hello: Path, whole: Path) -> None:
    assert bedplate(hello, "models", "list").stdout == "no model has a version yet\n"
    assert "no version of that model (got 'amuont')" in refused(whole, "models", "list", "amuont")
