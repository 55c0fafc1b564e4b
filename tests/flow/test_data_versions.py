"""Versions of tables: how they are named, what a table was when, and decisions that a kill or another process cuts across."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.core.clock import iso
from bedplate.core.errors import BedplateError, Busy, NotFound, SpecError
from bedplate.core.event import Draft
from bedplate.flow.data_versions import history, named, present, release, roll_back, roll_back_to, tag
from bedplate.flow.snapshots import take
from bedplate.flow.workspace import Workspace, open_workspace
from cli.sales import good, ids


@pytest.fixture
def workspace(sales: Path) -> Iterator[Workspace]:
    with open_workspace(sales) as opened:
        yield opened


def test_a_name_is_found_by_number_tag_moment_and_commit(workspace: Workspace) -> None:
    tag(workspace, "sales@1", "golden")
    one, two = (workspace.records.version(f"sales@{number}") for number in (1, 2))
    assert [named(workspace, text).version for text in ("sales@1", "sales@golden", "sales@2", "sales", "sales@now")] == [
        one,
        one,
        two,
        two,
        two,
    ]
    (first_s, _), (second_s, _) = history(workspace, "sales")
    between = iso((first_s + second_s) / 2)
    assert named(workspace, f"sales@{between}").version == one
    found = named(workspace, "sales@commit:1")
    assert (found.commit, found.version, found.ref) == (1, None, "sales@commit:1")
    assert named(workspace, "clicks_quarantine").version is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("sales@goldn", SpecError, "no version, tag or moment of 'sales'"),
        ("sales@2001-01-01", NotFound, "'sales' had no version then"),
        ("sales@3", NotFound, "no such version"),
        ("sales@commit:x", NotFound, "no such commit"),
        ("nothing@1", NotFound, "no such table"),
        ("clicks_quarantine@1", NotFound, "no version of that name"),
    ],
)
def test_what_names_nothing_is_told(workspace: Workspace, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        named(workspace, text)


def test_what_a_table_was_follows_rollbacks_and_releases(workspace: Workspace) -> None:
    assert [version.ref for _, version in history(workspace, "clicks")] == ["clicks@1", "clicks@2"]
    before_s = history(workspace, "clicks")[0][0]
    roll_back(workspace, "clicks", "broken")
    assert present(workspace, "clicks").ref == "clicks@1"
    assert [version.ref for _, version in history(workspace, "clicks")] == ["clicks@1", "clicks@2", "clicks@1"]
    assert history(workspace, "clicks")[0][0] == before_s
    release(workspace, "clicks", "mended")
    assert present(workspace, "clicks").ref == "clicks@1", "until it is read on"


def test_a_rollback_that_was_killed_before_the_table_followed_is_ended_by_the_same_command(workspace: Workspace, sales: Path) -> None:
    rolled = {"version": 1, "from": 2, "token": "rollback-1", "by": "ana", "reason": "broken"}
    workspace.ledger.append([Draft("table.rolled", "clicks", rolled)])
    workspace.refresh()
    assert ids(sales, "clicks") == good(50), "the decision alone was recorded"
    version, _ = roll_back(workspace, "clicks@1", "broken")
    assert version.ref == "clicks@1"
    assert ids(sales, "clicks") == good(30)
    assert len(workspace.records.rolled["clicks"]) == 1, "it is still the one decision"
    commits = named(workspace, "clicks@commit:0")
    roll_back(workspace, "clicks@1", "broken")
    assert named(workspace, "clicks@commit:0") == commits


def test_a_release_first_ends_what_a_killed_rollback_left(workspace: Workspace, sales: Path) -> None:
    rolled = {"version": 1, "from": 2, "token": "rollback-1", "by": "ana", "reason": "broken"}
    workspace.ledger.append([Draft("table.rolled", "clicks", rolled)])
    workspace.refresh()
    release(workspace, "clicks", "mended")
    assert ids(sales, "clicks") == good(30), "so the next ingestion reads on from there"


def test_a_held_table_can_be_moved_to_another_version(workspace: Workspace, sales: Path) -> None:
    roll_back(workspace, "clicks@1", "broken")
    version, was = roll_back(workspace, "clicks@2", "it was right after all")
    assert (version.ref, was.ref) == ("clicks@2", "clicks@1")
    assert ids(sales, "clicks") == good(50)


def test_nothing_is_rolled_back_while_a_run_ingests_it(workspace: Workspace, sales: Path) -> None:
    made = {**workspace.records.run("clicks").made, "launch": "run-9"}
    workspace.ledger.append([Draft("run.created", "clicks-9", made)])
    workspace.refresh()
    with pytest.raises(Busy, match=r"a run ingests the table now .*clicks-9"):
        roll_back(workspace, "clicks@1", "broken")
    assert workspace.records.held("clicks") is None
    assert ids(sales, "clicks") == good(50)


def test_a_tag_is_decided_on_what_others_decided_meanwhile(workspace: Workspace, sales: Path) -> None:
    with open_workspace(sales) as other:
        tag(other, "sales@1", "golden")
    assert tag(workspace, "sales@1", "golden").ref == "sales@1"
    with pytest.raises(BedplateError, match="points to sales@1 already"):
        tag(workspace, "sales@2", "golden")


def test_all_tables_or_none_go_back_to_a_snapshot(workspace: Workspace, sales: Path) -> None:
    roll_back(workspace, "sales@1", "broken")
    roll_back(workspace, "clicks@1", "broken")
    take(workspace, "monday")
    roll_back(workspace, "sales@2", "right")
    roll_back(workspace, "clicks@2", "right")
    made = {**workspace.records.run("clicks").made, "launch": "run-9"}
    workspace.ledger.append([Draft("run.created", "clicks-9", made)])
    workspace.refresh()
    with pytest.raises(Busy, match="ingests the table now"):
        roll_back_to(workspace, "monday", "broken")
    assert [present(workspace, name).ref for name in ("clicks", "sales")] == ["clicks@2", "sales@2"]
    workspace.ledger.append([Draft("run.finished", "clicks-9", {"status": "failed"})])
    workspace.refresh()
    rolled = {"version": 1, "from": 2, "token": "rollback-1", "by": "ana", "reason": "broken"}
    workspace.ledger.append([Draft("table.rolled", name, rolled) for name in ("clicks", "sales")])
    workspace.refresh()
    assert roll_back_to(workspace, "monday", "broken") == [], "a kill left the tables behind the decision"
    assert (ids(sales, "sales"), ids(sales, "clicks")) == ([1, 2, 3], good(30))
