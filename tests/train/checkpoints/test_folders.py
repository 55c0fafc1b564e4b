"""Checkpoints in folders: there or not, on the disk and in memory."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from bedplate.core.atomic import write_json
from bedplate.core.attempt import IDENTITY_FILE, Identity, boot_id, own_identity
from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.folders import FolderPlace, disk, shared_memory

LOCATION = "runs/r/1/checkpoints/step-3"


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> FolderPlace:
    return disk(tmp_path) if request.param == "disk" else shared_memory(tmp_path / "state", tmp_path / "shm")


def committed(place: FolderPlace, content: bytes = b"content", location: str = LOCATION) -> None:
    beside = place.begun(location, "5")
    (beside / "part-0.safetensors").write_bytes(content)
    place.commit(beside, location, b"manifest")


def test_it_is_not_there_before_it_is_committed_and_whole_after(place: FolderPlace) -> None:
    beside = place.begun(LOCATION, "5")
    assert place.begun(LOCATION, "5") == beside
    assert place.free(LOCATION)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        place.small(LOCATION, "manifest.json")
    committed(place)
    assert not place.free(LOCATION)
    assert place.small(LOCATION, "manifest.json") == b"manifest"
    assert bytes(place.file(LOCATION, "part-0.safetensors", 7).chunk(1, 4)) == b"ont"
    assert sorted(path.name for path in place.path(LOCATION).iterdir()) == ["manifest.json", "part-0.safetensors"]


def test_a_committed_checkpoint_is_never_written_over(place: FolderPlace) -> None:
    committed(place)
    with pytest.raises(OSError, match=r"(?i)not empty|exists"):
        committed(place, b"other")
    assert bytes(place.file(LOCATION, "part-0.safetensors", 7).chunk(0, 7)) == b"content"


@pytest.mark.parametrize("size", [6, 8])
def test_a_file_of_another_size_is_not_read(place: FolderPlace, size: int) -> None:
    committed(place)
    with pytest.raises(CheckpointError, match="short or long"):
        place.file(LOCATION, "part-0.safetensors", size)


def test_what_killed_saves_left_is_swept_and_committed_ones_stay(place: FolderPlace) -> None:
    committed(place)
    place.begun("runs/r/1/checkpoints/step-4", "6")
    place.sweep("runs/r/1/checkpoints")
    assert os.listdir(place.path(LOCATION).parent) == ["step-3"]  # noqa: PTH208 - hidden names count
    place.delete(LOCATION)
    assert os.listdir(place.path(LOCATION).parent) == []  # noqa: PTH208 - as above


def test_a_location_outside_is_not_read(place: FolderPlace) -> None:
    with pytest.raises(CheckpointError, match="outside"):
        place.small("../../etc", "passwd")


def test_what_attempts_that_are_over_left_in_memory_is_given_back(tmp_path: Path) -> None:
    state, memory = tmp_path / "state", shared_memory(tmp_path / "state", tmp_path / "shm")
    for run, identity in (
        ("dead", Identity(boot_id(), 2**22 + 1, 1, 1)),
        ("alive", own_identity(1)),
        ("mine", Identity("", 1, 1, 1)),
        ("new", None),
    ):
        (state / "runs" / run / "1").mkdir(parents=True)
        if identity is not None:
            write_json(state / "runs" / run / "1" / IDENTITY_FILE, asdict(identity))
        committed(memory, location=f"runs/{run}/1/checkpoints/step-1")
    memory.reclaim(state, state / "runs" / "mine" / "1")
    left = {run for run in ("dead", "alive", "mine", "new") if not memory.free(f"runs/{run}/1/checkpoints/step-1")}
    assert left == {"alive", "mine", "new"}


def test_memory_is_apart_for_each_state_folder(tmp_path: Path) -> None:
    one, other = (shared_memory(tmp_path / name, tmp_path / "shm") for name in ("a", "b"))
    committed(one)
    assert other.free(LOCATION)
    assert not one.durable
