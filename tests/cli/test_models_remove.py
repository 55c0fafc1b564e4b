"""`bedplate models remove`: refused while something uses the version; then its bytes go, and the reason stays."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_version_in_use_is_refused_and_one_that_is_not_goes(whole: Path) -> None:
    said = refused(whole, "models", "remove", "amount@1", "--reason", "x")
    assert "amount@1 is in use: alias production, endpoint amounts" in said
    assert bedplate(whole, "run", "fit", "--set", "epochs=2", "--set", "batch_size=8").returncode == 0
    newest = as_json(whole, "models", "list", "amount")[-1]["version"]
    place = Path(as_json(whole, "models", "show", newest)["location"])
    done = as_json(whole, "models", "remove", newest, "--reason", "trained on the wrong rows")
    assert done["bytes"] > 1000
    assert [path.name for path in place.iterdir()] == ["removed.json"]
    assert "trained on the wrong rows" in bedplate(whole, "models", "list").stdout
    said = refused(whole, "promote", newest, "--reason", "x")
    assert f"{newest} was removed by" in said
    assert "trained on the wrong rows" in said


def test_a_reason_is_needed(whole: Path) -> None:
    assert bedplate(whole, "models", "remove", "amount@1").returncode == 2
    assert "a decision needs a reason" in refused(whole, "models", "remove", "amount@1", "--reason", "")
