"""`bedplate models tag`."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_tags_are_set_shown_and_taken_away(whole: Path) -> None:
    assert bedplate(whole, "models", "tag", "amount@1", "owner=ann", "region=west").stdout == "amount@1: owner=ann region=west\n"
    assert as_json(whole, "models", "list", "amount")[0]["tags"] == {"region": "west", "owner": "ann"}
    done = as_json(whole, "models", "tag", "amount@1", "--remove", "region", "--remove", "owner")
    assert done == {"version": "amount@1", "tags": {}}


def test_what_is_no_tag(whole: Path) -> None:
    assert bedplate(whole, "models", "tag", "amount@1", "region").returncode == 2
    assert "a tag needs a name without spaces" in refused(whole, "models", "tag", "amount@1", "a b=c")
