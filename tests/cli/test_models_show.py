"""`bedplate models show`."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_the_card_and_all_that_is_known(whole: Path) -> None:
    text = bedplate(whole, "models", "show", "amount@1").stdout
    assert text.startswith("# amount@1\n")
    assert "## Metrics" in text
    known = as_json(whole, "models", "show", "amount@1")
    assert {"model.safetensors", "signature.json", "environment.json", "example.json"} <= set(known["meta"]["files"])
    assert known["signature"]["inputs"][0]["dtype"] == "float64"
    assert known["signature"]["outputs"][0]["shape"] == [-1]
    assert known["decisions"][0]["alias"] == "production"


def test_a_version_that_is_not_there(whole: Path) -> None:
    assert "no such version (got 'amount@99')" in refused(whole, "models", "show", "amount@99")
