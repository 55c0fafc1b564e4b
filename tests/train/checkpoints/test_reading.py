"""Reading: only what was verified, from wherever it is whole, and only the regions that are asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.digest import digest_bytes
from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.folders import FolderPlace, shared_memory
from bedplate.train.checkpoints.layout import Box, Held, file_layout
from bedplate.train.checkpoints.parts import MANIFEST_FILE, Digests, Part, manifest_of, part_file, part_index, write_file, write_index
from bedplate.train.checkpoints.reading import opened
from bedplate.train.checkpoints.staging import Staging

LOCATION = "runs/r/1/checkpoints/step-1"
POSITION = {"loop": 0, "epoch": 0, "sample": 0, "step": 1}


def stored(place: FolderPlace, whole: torch.Tensor, cuts: list[list[Box]], chunk_bytes: int = 64) -> str:
    """A checkpoint of the tensor "w" in `place`, each rank with its boxes; its digest."""
    beside, indexes = place.begun(LOCATION, "1"), []
    for rank, boxes in enumerate(cuts):
        layout = file_layout([Held("w", "float32", tuple(whole.shape), box, copies=True) for box in boxes])
        staging, origin = Staging(), Box((0,) * whole.dim(), tuple(whole.shape))
        staging.copy(layout, [whole[box.within(origin)].contiguous() for box in boxes])
        data = staging.arrived()
        write_file(beside / part_file(rank), data, durable=False)
        part = Part(rank, len(data), chunk_bytes, Digests(data, chunk_bytes).result(), layout.pieces, [], {})
        write_index(beside, part, durable=False)
        indexes.append(part.to_bytes())
    manifest = manifest_of(1, POSITION, {}, indexes)
    place.commit(beside, LOCATION, manifest)
    return digest_bytes(manifest)


def halves(rows: int, columns: int) -> list[list[Box]]:
    return [[Box((0, 0), (rows // 2, columns))], [Box((rows // 2, 0), (rows - rows // 2, columns))]]


@pytest.fixture
def place(tmp_path: Path) -> FolderPlace:
    return FolderPlace("disk", tmp_path, durable=False)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[FolderPlace]:
    found = shared_memory(tmp_path, tmp_path / "shm")
    yield found
    shutil.rmtree(found.root, ignore_errors=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_region_of_any_cut_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    whole = torch.arange(float(rows * columns)).reshape(rows, columns)
    across = data.draw(st.booleans())
    cut = data.draw(st.integers(0, columns if across else rows))
    first = Box((0, 0), (rows, cut) if across else (cut, columns))
    second = Box((0, cut), (rows, columns - cut)) if across else Box((cut, 0), (rows - cut, columns))
    place = FolderPlace("disk", tmp_path_factory.mktemp("any"), durable=False)
    digest = stored(place, whole, [[box] for box in (first, second) if box.elements])
    begin = (data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1)))
    shape = (data.draw(st.integers(0, rows - begin[0])), data.draw(st.integers(0, columns - begin[1])))
    found = opened(LOCATION, digest, [place]).read("w", Box(begin, shape))
    assert torch.equal(found, whole[begin[0] : begin[0] + shape[0], begin[1] : begin[1] + shape[1]])


class Counting:
    """A place that counts the bytes that are read of parts."""

    name = "counting"

    def __init__(self, inner: FolderPlace) -> None:
        self.inner, self.bytes = inner, 0

    def small(self, location: str, name: str) -> bytes:
        return self.inner.small(location, name)

    def file(self, location: str, name: str, nbytes: int) -> Any:
        self.opened = self.inner.file(location, name, nbytes)
        return self

    def chunk(self, begin: int, end: int) -> memoryview:
        self.bytes += end - begin
        return self.opened.chunk(begin, end)


def test_a_rank_reads_what_it_needs_and_no_more(place: FolderPlace) -> None:
    whole = torch.randn(1000, 16)
    digest = stored(place, whole, halves(1000, 16), chunk_bytes=1024)
    counting = Counting(place)
    found = opened(LOCATION, digest, [counting]).read("w", Box((700, 0), (100, 16)))
    assert torch.equal(found, whole[700:800])
    assert 6400 <= counting.bytes <= 6400 + 2 * 1024


def test_what_one_place_has_damaged_is_read_from_the_next_and_told(place: FolderPlace, memory: FolderPlace) -> None:
    whole = torch.randn(40, 8)
    digest = stored(place, whole, halves(40, 8))
    assert stored(memory, whole, halves(40, 8)) == digest
    path = memory.path(LOCATION) / part_file(1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (memory.path(LOCATION) / part_file(0)).unlink()
    told: list[str] = []
    found = opened(LOCATION, digest, [memory, place], told.append)
    found.verify([0, 1])
    assert torch.equal(found.read("w", Box((0, 0), (40, 8))), whole)
    assert len(told) == 2
    assert any("part-1" in line and "damaged" in line and "read from disk" in line for line in told)


def test_a_manifest_that_is_nowhere_whole_is_refused(place: FolderPlace, memory: FolderPlace) -> None:
    digest = stored(place, torch.ones(4, 2), halves(4, 2))
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        opened(LOCATION, digest_bytes(b"another"), [memory, place])
    with pytest.raises(CheckpointError, match="cannot be read"):
        opened(LOCATION, digest, [memory])


def test_a_tensor_that_is_not_there_or_not_all_there(place: FolderPlace) -> None:
    digest = stored(place, torch.ones(4, 2), halves(4, 2)[:1])
    found = opened(LOCATION, digest, [place])
    assert found.nbytes("w") == 32
    with pytest.raises(CheckpointError, match="lacks a tensor"):
        found.whole("v")
    with pytest.raises(CheckpointError, match="not all of a tensor"):
        found.read("w", Box((0, 0), (4, 2)))


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_checkpoint_tells_where_it_is_in_the_data_and_the_shape_of_each_tensor(place: FolderPlace) -> None:
    found = opened(LOCATION, stored(place, torch.zeros(6, 3), halves(6, 3)), [place])
    assert found.position == Position(**POSITION)
    assert (found.whole("w"), found.nbytes("w"), found.location) == ((6, 3), 72, LOCATION)
    assert found.generators == [{}, {}]


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_byte_is_found_by_who_verifies_that_part_and_by_no_other(place: FolderPlace, number: int) -> None:
    digest = stored(place, torch.randn(40, 8), halves(40, 8))
    damage(place.path(LOCATION) / part_file(number), -1)
    opened(LOCATION, digest, [place]).verify([1 - number])
    with pytest.raises(CheckpointError, match=rf"disk: {LOCATION}/part-{number}\.safetensors"):
        opened(LOCATION, digest, [place]).verify([0, 1])


def test_what_lies_outside_a_damaged_chunk_can_be_read(place: FolderPlace) -> None:
    whole = torch.randn(64, 4)
    digest = stored(place, whole, [[Box((0, 0), (64, 4))]], chunk_bytes=64)
    damage(place.path(LOCATION) / part_file(0), -1)
    found = opened(LOCATION, digest, [place])
    assert torch.equal(found.read("w", Box((0, 0), (60, 4))), whole[:60])
    with pytest.raises(CheckpointError, match="damaged"):
        found.read("w", Box((60, 0), (4, 4)))


@pytest.mark.parametrize("cut", [1, 64])
def test_a_part_that_is_too_short_or_too_long_is_not_read(place: FolderPlace, cut: int) -> None:
    digest = stored(place, torch.randn(40, 8), halves(40, 8))
    path = place.path(LOCATION) / part_file(1)
    whole = path.read_bytes()
    for data in (whole[:-cut], whole + bytes(cut)):
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            opened(LOCATION, digest, [place]).verify([1])
    path.write_bytes(whole)
    opened(LOCATION, digest, [place]).verify([1])


@pytest.mark.parametrize("name", [MANIFEST_FILE, part_index(0), part_index(1)])
def test_a_small_file_that_was_changed_is_named_and_read_from_another_place(place: FolderPlace, memory: FolderPlace, name: str) -> None:
    whole = torch.randn(8, 2)
    digest = stored(place, whole, halves(8, 2))
    stored(memory, whole, halves(8, 2))
    damage(memory.path(LOCATION) / name, 5)
    with pytest.raises(CheckpointError, match=f"was changed.*memory: {LOCATION}/{name}"):
        opened(LOCATION, digest, [memory])
    assert torch.equal(opened(LOCATION, digest, [memory, place]).read("w", Box((0, 0), (8, 2))), whole)


def test_two_places_that_are_each_damaged_elsewhere_are_together_whole(place: FolderPlace, memory: FolderPlace) -> None:
    whole = torch.randn(64, 4)
    digest = stored(place, whole, [[Box((0, 0), (64, 4))]])
    stored(memory, whole, [[Box((0, 0), (64, 4))]])
    damage(place.path(LOCATION) / part_file(0), -1)
    damage(memory.path(LOCATION) / part_file(0), 300)
    told: list[str] = []
    found = opened(LOCATION, digest, [memory, place], told.append)
    assert torch.equal(found.read("w", Box((0, 0), (64, 4))), whole)
    assert len(told) == 1, "a part is told of once"


def test_nowhere_is_nowhere(place: FolderPlace) -> None:
    digest = stored(place, torch.ones(4, 2), halves(4, 2))
    with pytest.raises(CheckpointError, match="a checkpoint is nowhere"):
        opened(LOCATION, digest, [])
    found = opened(LOCATION, digest, [place])
    found.places = []
    with pytest.raises(CheckpointError, match=r"file is nowhere.*part-0"):
        found.read("w", Box((0, 0), (1, 1)))


def test_a_format_of_another_time_is_refused(place: FolderPlace) -> None:
    stored(place, torch.ones(4, 2), halves(4, 2))
    path = place.path(LOCATION) / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    with pytest.raises(CheckpointError, match=r"format that is not known \(got 3\)"):
        opened(LOCATION, digest_bytes(path.read_bytes()), [place])


def test_a_scalar_is_read_and_a_chunk_once_read_is_kept(place: FolderPlace) -> None:
    digest = stored(place, torch.tensor(4.25), [[Box((), ())]])
    counting = Counting(place)
    found = opened(LOCATION, digest, [counting])
    assert found.read("w", Box((), ())).item() == 4.25
    first = counting.bytes
    assert found.read("w", Box((), ())).item() == 4.25
    assert counting.bytes == first > 0
