"""The tiers that a job declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import SpecError
from bedplate.train.checkpoints.tiers import tiers_of


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
