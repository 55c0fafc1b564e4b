"""The registry as people read it."""

from __future__ import annotations

from bedplate.flow.moving import promote, remove, tag
from bedplate.flow.registry import card_of, facts_of, listed
from flow.world import World


def two(world: World) -> None:
    world.drive("up")
    world.contents["fit"] = "2"
    world.drive("up", force=("fit",))


def test_versions_with_their_aliases_tags_and_fate(world: World) -> None:
    assert listed(world.workspace) == []
    two(world)
    tag(world.workspace, "price@2", {"region": "west"})
    rows = {row["version"]: row for row in listed(world.workspace)}
    assert {ref: row["aliases"] for ref, row in rows.items()} == {"price@1": [], "price@2": ["production"]}
    assert rows["price@2"]["tags"] == {"region": "west"}
    assert rows["price@1"]["from"] == "fit-1"
    remove(world.workspace, "price@1", "worse")
    [gone] = [row for row in listed(world.workspace) if row["version"] == "price@1"]
    assert gone["removed"].startswith("worse (")


def test_a_card_tells_what_was_recorded(world: World) -> None:
    two(world)
    version = world.workspace.records.version("price@2")
    text = card_of(world.workspace, version)
    assert text.startswith("# price@2\n")
    for line in ("- run: fit-2", f"- digest: {version.digest}", "| lr | 0.1 |", "| rmse | 1 |", "_For a person to write._"):
        assert line in text
    promote(world.workspace, "price@1", "2 is worse")
    facts = facts_of(world.workspace, world.workspace.records.version("price@1"))
    assert [each["decision"]["by"] == "gate" for each in facts["decisions"]] == [True, False]
    assert facts["signature"] is None, "these simulated models have no files"


def test_the_card_of_a_removed_version_says_so(world: World) -> None:
    two(world)
    remove(world.workspace, "price@1", "trained on the wrong rows")
    text = card_of(world.workspace, world.workspace.records.version("price@1"))
    assert "## Removed" in text
    assert "trained on the wrong rows" in text
