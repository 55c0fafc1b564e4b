"""`bedplate promote`: an alias moved by hand, for a reason that is recorded; an older version rolls back."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_an_alias_moves_and_moves_back(whole: Path, experiment: str) -> None:
    try:
        done = as_json(whole, "promote", experiment, "--reason", "to see it served")
        assert done == {"version": experiment, "alias": "production"}
        assert as_json(whole, "lineage", "amount@production")["title"].startswith(f"model {experiment}")
        [*_, endpoint] = as_json(whole, "plan", "amounts")["steps"]
        assert (endpoint["verdict"], endpoint["why"]) == ("run", "amount changed since amounts-1")
    finally:
        done = bedplate(whole, "promote", "amount@1", "--reason", "it was better")
    assert done.stdout == "amount@production is amount@1 now\n\nnext: bedplate up\n"
    assert as_json(whole, "plan", "amounts")["steps"][-1]["verdict"] == "fresh"


def test_what_is_wrong_is_named_and_nothing_moves(whole: Path) -> None:
    assert "no such version (got 'amount@99'). Fix: amount has versions 1 to" in refused(whole, "promote", "amount@99", "--reason", "x")
    assert "no version of that name (got 'amuont@1'). Fix: did you mean 'amount'" in refused(whole, "promote", "amuont@1", "--reason", "x")
    assert "the project declares no such model (got 'visits')" in refused(whole, "promote", "visits@1", "--reason", "x")
    assert "a decision needs a reason" in refused(whole, "promote", "amount@1", "--reason", " ")
    assert bedplate(whole, "promote", "amount@1").returncode == 2, "the reason is not optional"
    assert as_json(whole, "lineage", "amount@production")["title"].startswith("model amount@1")
