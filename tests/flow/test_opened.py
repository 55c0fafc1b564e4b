"""The Python interface over real processes: a project of two CSV files, a feature view and a training set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import bedplate
from bedplate.core.errors import BedplateError, JobError, NotFound
from bedplate.core.heads import audit
from bedplate.flow.opened import OpenProject, open_project

PROJECT = """
project: csv
datasets:
  visits: {source: visits.csv, key: [id], known_at: at, backfill: trusted, columns: {id: int, shop: string, at: timestamp, size: float}}
  sales: {source: sales.csv, key: [id], known_at: at, backfill: trusted, columns: {id: int, shop: string, at: timestamp, amount: float}}
features:
  shop_sales: {from: sales, entity: shop, windows: [1h], aggregates: {amount: [mean, count]}}
jobs:
  note: {function: note.py:note, params: {text: hello}, outputs: [note.txt]}
  bad: {function: note.py:bad}
  fit:
    function: fit.py:fit
    inputs: {spine: visits, columns: [size, shop], label: sales.amount, features: [shop_sales]}
"""
NOTE = """
def note(run, text):
    (run.root / "note.txt").write_text(text)

def bad(run):
    raise ValueError("no luck")
"""


def write(folder: Path) -> Path:
    folder.mkdir()
    times = [f"2024-01-01T{hour:02}:{minute:02}:00Z" for hour in range(8) for minute in (0, 20, 40)]
    (folder / "bedplate.yaml").write_text(PROJECT)
    (folder / "note.py").write_text(NOTE)
    (folder / "fit.py").write_text("def fit(run): ...\n")
    (folder / "visits.csv").write_text("id,shop,at,size\n" + "".join(f"{n},s{n % 2},{at},{n}\n" for n, at in enumerate(times)))
    (folder / "sales.csv").write_text("id,shop,at,amount\n" + "".join(f"{n},s{n % 2},{at},{n * 2}\n" for n, at in enumerate(times)))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("opened") / "csv")


@pytest.fixture
def project(folder: Path) -> Iterator[OpenProject]:
    with open_project(folder) as opened:
        yield opened


def steps(runs: list[bedplate.RunRecord]) -> list[str]:
    return sorted(run.step for run in runs)


def test_one_target_is_made_with_all_that_it_needs_and_nothing_else(project: OpenProject) -> None:
    moments: list[str] = []
    runs = project.run("fit.inputs", on_progress=lambda progress: moments.extend(moment.step for moment in progress))
    assert steps(runs) == ["fit.inputs", "sales", "shop_sales", "visits"]
    assert all(run.status == "succeeded" for run in runs)
    assert set(moments) == {"fit.inputs", "sales", "shop_sales", "visits"}
    training = project.version("fit.inputs")
    assert (training.ref, training.meta["rows"]) == ("fit.inputs@1", 24)
    assert project.version("visits").meta["rows"] == 24
    assert project.name == "csv"


def test_again_nothing_runs_also_after_a_readme_was_edited(folder: Path, project: OpenProject) -> None:
    (folder / "README.md").write_text("what this is")
    assert project.run("fit.inputs") == []
    assert project.plan("fit.inputs").to_run == ()


def test_a_feature_with_another_window_runs_again_with_what_depends_on_it_and_nothing_else(folder: Path) -> None:
    (folder / "bedplate.yaml").write_text(PROJECT.replace("windows: [1h]", "windows: [1h, 3h]"))
    with open_project(folder) as project:
        assert steps(project.run("fit.inputs")) == ["fit.inputs", "shop_sales"]
        features = project.version("shop_sales").meta["features"]
        assert "shop_sales__amount__mean__3h" in features and len(features) == 4
        assert [version.number for version in project._workspace.records.versions["visits"]] == [1]


def test_going_back_to_what_was_runs_nothing(folder: Path, project: OpenProject) -> None:
    (folder / "bedplate.yaml").write_text(PROJECT)
    assert project.run("shop_sales") == []


def test_a_changed_source_file_brings_its_dataset_in_again(folder: Path) -> None:
    with (folder / "visits.csv").open("a") as file:
        file.write("24,s0,2024-01-01T09:00:00Z,24\n24,s0,never,24\n")
    with open_project(folder) as project:
        assert project.plan("visits").step("visits").why.startswith("visits.csv changed since visits-")
        assert steps(project.run("visits")) == ["visits"]
        assert (project.version("visits").meta["rows"], project.version("visits").meta["quarantined"]) == (25, 1)
        assert project.plan("fit.inputs").step("sales").verdict == "fresh"


def test_a_job_runs_again_for_other_parameters_and_other_code(folder: Path) -> None:
    with open_project(folder, {"text": "goodbye"}) as project:
        (run,) = project.run("note")
        assert (run.params, run.outputs) == ({"text": "goodbye"}, ("note.txt@1",))
        assert (folder / "note.txt").read_text() == "goodbye"
        assert project.run("note") == []
        (folder / "note.py").write_text("# another line\n" + NOTE)
        assert project.plan("note").step("note").why == "its code changed since note-1"
        (again,) = project.run("note", force=["note"])
        assert again.outputs == ("note.txt@1",), "the same content is the same version"


def test_a_failing_job_raises_its_message(project: OpenProject) -> None:
    with pytest.raises(JobError, match=r"the launch failed: bad-1 failed: ValueError: no luck \(note.py:\d+\)"):
        project.run("bad")
    assert [run.status for run in project.runs("bad")] == ["failed"]
    assert project.explain("bad-1")["what would help"].startswith("correct the code")


def test_what_was_made_can_be_looked_up(project: OpenProject) -> None:
    assert "run visits-1" in project.lineage("fit.inputs@1").text()
    with pytest.raises(NotFound):
        project.version("nothing@1")
    with pytest.raises(NotFound):
        project.run("nothing")
    with pytest.raises(BedplateError):
        open_project("/nowhere/at/all")


def test_the_ledger_of_it_all_verifies_and_down_ends_nothing(project: OpenProject) -> None:
    assert project.down() == []
    workspace = project._workspace
    assert audit(workspace.ledger, workspace.settings.home).events == workspace.refresh().seq
