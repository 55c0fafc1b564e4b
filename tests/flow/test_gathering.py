"""Gathering: all that a model version came from, read from the ledger, its files and its tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, CheckpointError, NotFound
from bedplate.core.event import Draft
from bedplate.flow.gathering import CORE_W, came_from, gather
from bedplate.flow.workspace import Workspace
from flow.shop import make_shop, tell
from models.evidence import sample


@pytest.fixture
def shop(tmp_path: Path, own_home: Path) -> Iterator[Workspace]:
    with make_shop(tmp_path / "shop", own_home) as workspace:
        yield workspace


def test_everything_that_the_version_came_from(shop: Workspace) -> None:
    facts = gather(shop, "price@production")
    assert [version.ref for version in facts.versions] == ["price@2", "rows@3", "fit.inputs@2", "data/rows.csv@1"]
    assert {run.id for run in facts.runs} == {"fit-2", "fit.inputs-2", "rows-3", "make-1"}
    assert facts.run is not None
    assert facts.run.id == "fit-2"
    assert facts.signature["label"] == "price"
    assert facts.evaluation["metrics"] == {"rmse": 1.5}
    assert [(alias, move.version) for alias, move in facts.decisions] == [("production", 2)]
    assert list(facts.endpoints) == ["prices"]


def test_the_sheet_shows_ranges_of_the_cut_but_no_person(shop: Workspace) -> None:
    [sheet] = gather(shop, "price@2").sheets
    columns = {column.name: column for column in sheet.columns}
    assert (columns["size"].least, columns["size"].most, columns["size"].distinct) == ("0.5", "3.5", 7)
    assert (columns["person"].least, columns["person"].most) == ("3 characters", "3 characters")
    assert (columns["flag"].least, columns["flag"].distinct) == ("", None)
    assert columns["at"].least.startswith("1970-01-01 00:00:01")
    assert (sheet.license, sheet.residency, sheet.subject, sheet.key) == ("CC0-1.0", "EU", "person", ("id",))


def test_a_table_that_is_gone_is_said(shop: Workspace) -> None:
    (shop.state / "lake" / "rows" / "_delta_log").rename(shop.state / "elsewhere")
    [sheet] = gather(shop, "price@2").sheets
    assert sheet.columns == ()
    assert "no such table" in sheet.columns_unread


def test_the_evaluation_is_that_of_the_version_not_the_newest_of_the_model(shop: Workspace) -> None:
    tell(shop, "evaluation.recorded", "price", {"candidate": "price@3", "metrics": {"rmse": 9.0}, "pinned_set": "x@1"})
    assert gather(shop, "price@2").evaluation["metrics"] == {"rmse": 1.5}


def test_the_newest_evaluation_of_the_version_counts(shop: Workspace) -> None:
    tell(shop, "evaluation.recorded", "price", {"candidate": "price@2", "metrics": {"rmse": 1.25}, "pinned_set": "x@1"})
    assert gather(shop, "price@2").evaluation["metrics"] == {"rmse": 1.25}


def test_only_moves_to_the_version_are_its_decisions(shop: Workspace) -> None:
    for version in (1, 2, 3):
        tell(shop, "alias.moved", "price", {"alias": "canary", "version": version, "decision": {"by": "ann"}})
    assert [(alias, move.version) for alias, move in gather(shop, "price@2").decisions] == [("production", 2), ("canary", 2)]


def test_energy_is_wall_time_times_cores_and_says_so(shop: Workspace) -> None:
    spent = {each.run: each for each in gather(shop, "price@2").spent}
    fit = spent["fit-2"]
    assert fit.seconds == pytest.approx(1.0)
    assert fit.energy_kwh == pytest.approx(CORE_W / 3.6e6)
    assert fit.price_usd is None
    assert "W each" in fit.how


def test_devices_of_the_catalog_have_power_and_price(shop: Workspace) -> None:
    placed = {"placement": {"accelerators": [0, 1], "world_size": 2}, "hardware": {"devices": ["NVIDIA H100 80GB HBM3"]}}
    other = sample.version("price", 3, "model", "fit-3", gather(shop, "price@2").version.digest)
    shop.ledger.append(sample.run_drafts("fit-3", "fit", "train", {}, other, **placed))
    shop.refresh()
    [spent] = gather(shop, "price@3").spent
    assert spent.device.startswith("H100")
    assert spent.device_hours == pytest.approx(2 * spent.seconds / 3600)
    assert spent.energy_kwh is not None
    assert spent.price_usd is not None
    unknown = {"placement": {"accelerators": [0]}, "hardware": {"devices": ["Abacus 9"]}}
    shop.ledger.append(
        sample.run_drafts("fit-4", "fit", "train", {}, sample.version("price", 4, "model", "fit-4", other.digest), **unknown)
    )
    shop.refresh()
    assert gather(shop, "price@4").spent[0].device == "unknown device"


def test_changed_files_and_other_kinds_are_refused(shop: Workspace) -> None:
    with pytest.raises(BedplateError, match="evidence is of models"):
        gather(shop, "rows@3")
    with pytest.raises(NotFound):
        gather(shop, "price@9")
    (shop.state / "lake" / "price" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        gather(shop, "price@2")


def test_an_input_whose_event_was_erased_is_left_out(shop: Workspace) -> None:
    [seq] = [event.seq for event in shop.ledger.read() if event.subject == "rows@3"]
    shop.records.release()
    shop.ledger.erase(seq, "it named somebody")
    shop.refresh()
    versions, runs = came_from(shop.records, shop.records.version("price@2"))
    assert [version.ref for version in versions] == ["price@2", "fit.inputs@2"]
    assert [run.id for run in runs] == ["fit-2", "fit.inputs-2"]


def test_a_version_that_is_in_two_ways_comes_once(shop: Workspace) -> None:
    made = sample.version("price", 3, "model", "fit-3", "a")
    shop.ledger.append([*sample.run_drafts("fit-3", "fit", "train", {"a": "rows@3", "b": "fit.inputs@2", "c": "price@2"}, made)])
    shop.ledger.append([Draft("step.accepted", "fit", {"fingerprint": "x"})])
    versions, _ = came_from(shop.refresh(), shop.records.version("price@3"))
    assert sorted(version.ref for version in versions) == ["data/rows.csv@1", "fit.inputs@2", "price@2", "price@3", "rows@3"]
