"""Snapshots: the same state has the same digest, a name stays, and of two who take one at once, one wins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, DataError, NotFound
from bedplate.flow import snapshots
from bedplate.flow.data_versions import roll_back
from bedplate.flow.drive import drive
from bedplate.flow.planner import plan
from bedplate.flow.snapshots import find, moved, take
from bedplate.flow.workspace import Workspace, open_workspace, request_launch
from cli.kit import write_hello
from cli.sales import SECOND, sell


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


def test_a_run_at_a_snapshot_reads_its_tables_and_makes_none(workspace: Workspace, sales: Path) -> None:
    take(workspace, "monday")
    sell(sales, (*SECOND, (9, 90.0)))
    declared = (sales / "bedplate.yaml").read_text()
    (sales / "bedplate.yaml").write_text(declared.replace("[1d]", "[2d]"))
    with open_workspace(sales) as changed:
        planned = plan(changed, ["totals"], at="monday").step("sales")
        assert (planned.verdict, planned.why) == ("fresh", "sales@2 is pinned by the snapshot monday")
        assert plan(changed, ["totals"]).step("sales").verdict == "run"
        for at, made_of in (("monday", "sales@2"), ("", "sales@3")):
            launch = request_launch(changed, "run", ("totals",), at=at)
            assert drive(changed, launch, lambda *_: None).status == "done"
            (run,) = [run for run in changed.records.runs.values() if run.launch == launch and run.step == "totals"]
            assert made_of in json.dumps(run.made["inputs"])
        assert changed.records.versions["totals"][-2].digest != changed.records.versions["totals"][-1].digest


def test_what_only_made_a_pinned_table_is_not_looked_at(workspace: Workspace, sales: Path) -> None:
    take(workspace, "monday")
    (sales / "sales.csv").unlink()
    with pytest.raises(DataError, match=r"sales\.csv"):
        plan(workspace, ["totals"])
    assert [step.verdict for step in plan(workspace, ["totals"], at="monday").steps] == ["fresh", "fresh"]


def test_a_snapshot_that_is_not_there_or_lost_a_table_is_told(workspace: Workspace, sales: Path) -> None:
    take(workspace, "monday")
    with pytest.raises(NotFound, match="no such snapshot") as caught:
        plan(workspace, ["totals"], at="mondya")
    assert "monday" in str(caught.value.fix)
    shutil.rmtree(sales / ".bedplate" / "lake" / "sales")
    with pytest.raises(NotFound, match="a table of the snapshot is gone"):
        plan(workspace, ["totals"], at="monday")


def test_where_nothing_was_made_there_is_nothing_to_pin(tmp_path: Path) -> None:
    with open_workspace(write_hello(tmp_path / "hello")) as empty, pytest.raises(NotFound, match="nothing to pin yet"):
        take(empty, "one")
