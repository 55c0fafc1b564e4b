"""Vacuum: what retention keeps, what holds a version whatever retention says, and what a kill leaves to the next one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.clock import SimClock
from bedplate.core.errors import NotFound
from bedplate.core.event import Draft
from bedplate.core.versions import Version
from bedplate.data.ingest import ingest_file
from bedplate.data.lake import Lake
from bedplate.flow.data_versions import named, roll_back, tag
from bedplate.flow.snapshots import take
from bedplate.flow.vacuuming import expiring, holders, vacuum
from bedplate.flow.workspace import Workspace, open_workspace
from cli.sales import ids

DECLARED = "{source: sales.csv, key: [id], columns: {id: int}, retention: RETENTION}"


def going(workspace: Workspace) -> tuple[str, ...]:
    [found] = expiring(workspace, "sales")
    return found.going


@pytest.fixture
def workspace(sales: Path) -> Iterator[Workspace]:
    text = (sales / "bedplate.yaml").read_text()
    (sales / "bedplate.yaml").write_text(text.replace("{source: sales.csv,", "{source: sales.csv, retention: {versions: 1},"))
    with open_workspace(sales) as opened:
        yield opened


def test_tags_snapshots_rollbacks_and_live_runs_hold_a_version(workspace: Workspace) -> None:
    assert going(workspace) == ("sales@1",)
    made = {**workspace.records.run("totals").made, "inputs": {"sales": "sales@1"}, "launch": "run-9"}
    workspace.ledger.append([Draft("run.created", "totals-9", made)])
    workspace.refresh()
    assert holders(workspace)["sales@1"] == ["run totals-9"]
    roll_back(workspace, "sales@1", "broken")
    take(workspace, "monday")
    tag(workspace, "sales@1", "golden")
    assert holders(workspace)["sales@1"] == ["what the table is now", "tag golden", "snapshot monday", "run totals-9"]
    [found] = vacuum(workspace)
    assert (found.going, found.held["sales@1"]) == ((), tuple(holders(workspace)["sales@1"]))


def test_a_model_holds_what_it_was_made_of_in_however_many_steps(workspace: Workspace) -> None:
    totals = {**workspace.records.run("totals").made, "step": "fit", "inputs": {"totals": "totals@1"}, "launch": "run-9"}
    model = Version("price", 1, "model", "d", "x", "fit-1", 1.0).to_json()
    workspace.ledger.append([Draft("run.created", "fit-1", totals), Draft("version.created", "price@1", {"version": model})])
    workspace.ledger.append([Draft("run.finished", "fit-1", {"status": "succeeded", "outputs": ["price@1"]})])
    workspace.refresh()
    assert holders(workspace)["sales@1"] == ["model price@1"]
    workspace.ledger.append([Draft("version.removed", "price@1", {"by": "ana", "reason": "x", "digest": "d"})])
    workspace.refresh()
    assert going(workspace) == ("sales@1",), "a model that was removed holds nothing"


def test_what_a_kill_left_is_deleted_by_the_next_one(workspace: Workspace, sales: Path) -> None:
    digest = workspace.records.version("sales@1").digest
    workspace.ledger.append([Draft("version.removed", "sales@1", {"by": "ana", "reason": "retention of sales", "digest": digest})])
    workspace.refresh()
    assert ids(sales, "sales", 1) == [1, 2, 3], "the decision was recorded, and its files are there still"
    [found] = vacuum(workspace)
    assert (found.going, found.files) == ((), 1)
    with pytest.raises(FileNotFoundError):
        ids(sales, "sales", 1)
    with pytest.raises(NotFound, match="was removed"):
        named(workspace, "sales@1")
    assert ids(sales, "sales") == [2, 3, 4]


def test_files_that_are_written_but_not_committed_yet_stay(workspace: Workspace, sales: Path) -> None:
    writing = sales / ".bedplate" / "lake" / "sales" / "part-0-of-a-writer.snappy.parquet"
    writing.write_bytes(b"half")
    vacuum(workspace)
    assert writing.exists()


def begin(folder: Path, retention: str, clock: SimClock) -> Workspace:
    (folder / "bedplate.yaml").write_text(f"project: p\ndatasets:\n  sales: {DECLARED.replace('RETENTION', retention)}\n")
    return open_workspace(folder, clock=clock)


def ingested(workspace: Workspace, rows: list[int]) -> None:
    """What a run of the ingest step adds: the table's cut, as a version."""
    source = workspace.project.root / "sales.csv"
    source.write_text("\n".join(["id", *map(str, rows)]) + "\n")
    cut = ingest_file("sales", workspace.project.spec.datasets["sales"], source, Lake(workspace.state / "lake"), lambda done, total: None)
    number = len(workspace.records.versions.get("sales", [])) + 1
    run, ref = f"sales-{number}", f"sales@{number}"
    meta = {"table_version": cut.table_version, "rows": cut.rows, "offsets": {"0": cut.offsets[0]}}
    version = Version("sales", number, "table", f"{cut.digest}-{number}", "lake/sales", run, workspace.clock.now(), meta)
    dataset = workspace.project.spec.datasets["sales"].model_dump(mode="json")
    made = {
        "step": "sales",
        "kind": "ingest",
        "launch": "x",
        "fingerprint": ref,
        "max_restarts": 0,
        "inputs": {},
        "spec": {"dataset": dataset},
    }
    drafts = [Draft("run.created", run, made), Draft("version.created", ref, {"version": version.to_json()})]
    workspace.ledger.append([*drafts, Draft("run.finished", run, {"status": "succeeded", "outputs": [ref]})])
    workspace.refresh()


@pytest.mark.parametrize(
    ("retention", "gone"),
    [
        ("{versions: 2}", (1, 2)),
        ("{age: 15d}", (1, 2)),  # the table was at 2 until day 20, and it is day 36
        ("{age: 17d}", (1,)),
        ("{versions: 3, age: 1d}", (1,)),
        ("{versions: 1, age: 90d}", ()),
    ],
)
def test_a_version_goes_when_it_is_beyond_all_that_is_declared(tmp_path: Path, retention: str, gone: tuple[int, ...]) -> None:
    clock = SimClock(1.7e9)
    with begin(tmp_path, retention, clock) as workspace:
        for number in range(1, 5):
            ingested(workspace, [number])
            clock.sleep(10 * 86400 if number < 4 else 6 * 86400)
        assert going(workspace) == tuple(f"sales@{number}" for number in gone)


OPERATIONS = st.lists(st.sampled_from(["ingest", "ingest", "rollback", "tag", "vacuum"]), min_size=4, max_size=12)


@settings(max_examples=7, deadline=None)
@given(operations=OPERATIONS, seed=st.integers(0, 1000), keep=st.integers(1, 3))
def test_any_order_of_ingest_rollback_tag_and_vacuum(
    tmp_path_factory: pytest.TempPathFactory, operations: list[str], seed: int, keep: int
) -> None:
    """Beside the project, plain Python: what each version holds, where the table is, what tags hold, what is gone."""
    choose = random.Random(seed)
    holds: dict[int, list[int]] = {}
    tags: dict[str, int] = {}
    present, clock = 0, SimClock(1.7e9)
    with begin(tmp_path_factory.mktemp("p"), f"{{versions: {keep}}}", clock) as workspace:
        for place, operation in enumerate(["ingest", *operations]):
            clock.sleep(60.0)
            known = sorted(holds)
            if operation == "ingest" and workspace.records.held("sales") is None:
                number = len(workspace.records.versions.get("sales", [])) + 1
                holds[number] = sorted(choose.sample(range(100), 3))
                ingested(workspace, holds[number])
                present = number
            elif operation == "rollback" and (others := [number for number in known if number != present]):
                present = choose.choice(others)
                roll_back(workspace, f"sales@{present}", "broken")
            elif operation == "tag":
                tags[f"t{place}"] = choose.choice(known)
                tag(workspace, f"sales@{tags[f't{place}']}", f"t{place}")
            elif operation == "vacuum":
                vacuum(workspace)
                holds = {number: rows for number, rows in holds.items() if number in known[-keep:] or number in {present, *tags.values()}}
            folder = workspace.project.root
            assert ids(folder, "sales") == holds[present]
            for number, rows in holds.items():
                assert ids(folder, "sales", named(workspace, f"sales@{number}").commit) == rows
            assert {
                version.number for version in workspace.records.versions["sales"] if version.ref not in workspace.records.removed
            } == set(holds)
