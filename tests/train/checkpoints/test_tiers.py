"""The tiers that a job declares."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from bedplate.core.errors import SpecError
from bedplate.train.checkpoints.tiers import Tiers, tiers_of


@pytest.mark.parametrize(
    ("declared", "names"),
    [
        (None, ["disk"]),
        (["memory", "disk"], ["memory", "disk"]),
        (["disk", "memory"], ["memory", "disk"]),
        (["memory"], ["memory"]),
    ],
)
def test_folders_come_the_fastest_first(tmp_path: Path, declared: list[str] | None, names: list[str]) -> None:
    assert [place.name for place in tiers_of(declared, tmp_path).places] == names


def test_an_object_store_alone_is_filled_from_the_disk(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    url = f"file://{tmp_path}/store"
    assert [place.name for place in tiers_of([url], tmp_path).places] == ["disk", url]


@pytest.mark.parametrize("name", ["floppy", "http://there", "s3:/one"])
def test_what_is_no_tier(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="unknown tier"):
        tiers_of([name], tmp_path)


def test_peers_hold_a_second_copy_of_what_memory_holds_and_are_read_before_the_disk(tmp_path: Path) -> None:
    assert [place.name for place in tiers_of(["peer"], tmp_path).places] == ["memory", "peer"]
    tiers = tiers_of(["disk", "peer"], tmp_path)
    assert [place.name for place in tiers.written] == ["memory", "peer", "disk"]
    assert [place.name for place in tiers.folders] == ["memory", "disk"]


@pytest.mark.parametrize("declared", [(), [], ("disk",), ("disk", "disk")])
def test_what_is_declared_twice_or_not_at_all_is_the_disk_once(tmp_path: Path, declared: list[str]) -> None:
    tiers = tiers_of(declared, tmp_path)
    assert [place.name for place in tiers.places] == ["disk"]
    assert tiers.peers is None
    assert [place.durable for place in tiers.folders] == [True]


@pytest.mark.parametrize("declared", list(itertools.permutations(["memory", "peer", "disk"])))
def test_the_order_in_which_tiers_are_declared_says_nothing(tmp_path: Path, declared: tuple[str, ...]) -> None:
    assert [place.name for place in tiers_of(declared, tmp_path).written] == ["memory", "peer", "disk"]


def test_memory_does_not_outlast_a_host_and_the_disk_does(tmp_path: Path) -> None:
    assert {place.name: place.durable for place in tiers_of(["memory", "disk"], tmp_path).folders} == {"memory": False, "disk": True}


def test_several_object_stores_are_filled_in_the_order_of_their_declaration(tmp_path: Path) -> None:
    urls = [f"file://{tmp_path}/{name}" for name in ("b", "a")]
    for url in urls:
        Path(url.removeprefix("file://")).mkdir()
    tiers = tiers_of(["memory", *urls], tmp_path)
    assert [place.name for place in tiers.objects] == urls
    assert [place.name for place in tiers.written] == ["memory"]
    assert [place.name for place in tiers.places] == ["memory", *urls]


@pytest.mark.parametrize("name", ["", "Disk", "memory ", "s3", "ftp://x/y"])
def test_a_name_that_is_nearly_one_is_refused_with_what_there_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=r"use memory, peer, disk, or s3://bucket/prefix"):
        tiers_of(["disk", name], tmp_path)


def test_tiers_of_nothing_have_no_places() -> None:
    assert Tiers((), ()).places == ()
