"""Snapshots: the same state has the same digest, a name stays, and of two who take one at once, one wins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, NotFound
from bedplate.flow import snapshots
from bedplate.flow.data_versions import roll_back
from bedplate.flow.snapshots import find, moved, take
from bedplate.flow.workspace import Workspace, open_workspace
from cli.kit import write_hello


@pytest.fixture
def workspace(sales: Path) -> Iterator[Workspace]:
    with open_workspace(sales) as opened:
        yield opened


def test_the_same_state_has_the_same_digest_under_any_name(workspace: Workspace) -> None:
    one, two = take(workspace, "one"), take(workspace, "two")
    assert one.digest == two.digest
    assert moved(one, two) == []
    assert take(workspace, "one") == one == find(workspace, "one"), "again for the same state changes nothing"
    commit = workspace.records.version("sales@2").meta["table_version"]
    assert one.pinned["sales"] == {
        "version": "sales@2",
        "kind": "table",
        "digest": workspace.records.version("sales@2").digest,
        "commit": commit,
    }


def test_a_name_is_not_taken_twice_for_different_states(workspace: Workspace) -> None:
    before = take(workspace, "one")
    roll_back(workspace, "sales", "broken")
    with pytest.raises(BedplateError, match="pins another state already"):
        take(workspace, "one")
    assert find(workspace, "one") == before
    after = take(workspace, "two")
    assert [(each.name, each.before, each.after) for each in moved(before, after)] == [
        ("sales", "sales@2", "sales@1"),
        ("totals", "totals@2", "totals@1"),
    ]


def test_of_two_at_once_one_wins_and_the_other_is_told(workspace: Workspace, sales: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = snapshots._present

    def outrun(mine: Workspace) -> object:
        """Between the look and the append, somebody else takes the name for another state."""
        found = look(mine)
        if mine is workspace and "one" not in mine.records.snapshots:
            with open_workspace(sales) as other:
                roll_back(other, "sales@1", "broken")
                take(other, "one", "theirs")
                roll_back(other, "sales@2", "it was right")
        return found

    monkeypatch.setattr(snapshots, "_present", outrun)
    with pytest.raises(BedplateError, match="pins another state already"):
        take(workspace, "one", "mine")
    assert workspace.records.snapshots["one"]["reason"] == "theirs"


def test_a_view_that_is_not_up_to_date_is_left_out_and_named(workspace: Workspace, sales: Path) -> None:
    declared = (sales / "bedplate.yaml").read_text()
    (sales / "bedplate.yaml").write_text(declared.replace("[1d]", "[2d]"))
    with open_workspace(sales) as changed:
        taken = take(changed, "one")
    assert taken.stale == ("totals",)
    assert set(taken.pinned) == {"clicks", "sales"}


def test_where_nothing_was_made_there_is_nothing_to_pin(tmp_path: Path) -> None:
    with open_workspace(write_hello(tmp_path / "hello")) as empty, pytest.raises(NotFound, match="nothing to pin yet"):
        take(empty, "one")
