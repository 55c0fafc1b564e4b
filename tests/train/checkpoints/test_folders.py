"""Checkpoints in folders: there or not, on the disk and in memory."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from bedplate.core.atomic import write_json
from bedplate.core.attempt import IDENTITY_FILE, Identity, boot_id, own_identity
from bedplate.core.digest import digest_bytes
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


def names_beside(place: FolderPlace) -> list[str]:
    return sorted(os.listdir(place.path(LOCATION).parent))  # noqa: PTH208 - hidden names count


def test_saves_of_the_same_step_do_not_mix(place: FolderPlace) -> None:
    one, other = place.begun(LOCATION, "5"), place.begun(LOCATION, "6")
    assert one != other
    assert names_beside(place) == [".step-3.5.tmp", ".step-3.6.tmp"]
    place.commit(other, LOCATION, b"of the sixth")
    assert place.small(LOCATION, "manifest.json") == b"of the sixth"
    place.sweep("runs/r/1/checkpoints")
    assert names_beside(place) == ["step-3"]


def test_what_a_killed_deletion_left_is_no_checkpoint_and_is_swept(place: FolderPlace) -> None:
    committed(place)
    place.path(LOCATION).rename(place.path(LOCATION).with_name(".step-3.gone"))
    assert place.free(LOCATION)
    place.sweep("runs/r/1/checkpoints")
    assert names_beside(place) == []


def test_deleting_what_is_not_there_and_sweeping_where_nothing_is_do_no_harm(place: FolderPlace) -> None:
    place.delete(LOCATION)
    place.sweep("runs/none/1/checkpoints")
    assert place.free(LOCATION)


def test_a_deleted_checkpoint_can_be_made_again(place: FolderPlace) -> None:
    committed(place, b"first")
    place.delete(LOCATION)
    committed(place, b"second")
    assert bytes(place.file(LOCATION, "part-0.safetensors", 6).chunk(0, 6)) == b"second"


def test_what_was_opened_can_still_be_read_when_it_is_deleted_meanwhile(place: FolderPlace) -> None:
    committed(place)
    opened = place.file(LOCATION, "part-0.safetensors", 7)
    place.delete(LOCATION)
    assert bytes(opened.chunk(0, 7)) == b"content"


def test_what_is_read_may_be_changed_in_memory_and_stays_as_it_was_in_the_file(place: FolderPlace) -> None:
    committed(place)
    opened = place.file(LOCATION, "part-0.safetensors", 7)
    opened.chunk(0, 7)[:3] = b"XYZ"
    assert bytes(opened.chunk(0, 7)) == b"XYZtent"
    assert bytes(place.file(LOCATION, "part-0.safetensors", 7).chunk(0, 7)) == b"content"


def test_a_file_without_bytes_or_that_is_not_there_cannot_be_read(place: FolderPlace) -> None:
    committed(place, b"")
    for name in ("part-0.safetensors", "part-1.safetensors"):
        with pytest.raises(CheckpointError, match=f"cannot be read.*{place.name}: {LOCATION}/{name}"):
            place.file(LOCATION, name, 0)


@pytest.mark.parametrize("location", ["/etc", "..", "runs/../../x", "runs/r/../../../x"])
def test_no_method_leaves_the_tier(place: FolderPlace, location: str) -> None:
    for act in (place.free, place.delete, place.sweep, place.path):
        with pytest.raises(CheckpointError, match="outside"):
            act(location)
    with pytest.raises(CheckpointError, match="outside"):
        place.begun(location, "1")


def test_memory_of_one_state_folder_is_found_again_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    direct, linked = (shared_memory(tmp_path / name, tmp_path / "shm") for name in ("state", "link"))
    assert direct == linked
    assert direct.root.name == f"bedplate-{os.getuid()}-{digest_bytes(str(tmp_path / 'state').encode())[:16]}"
