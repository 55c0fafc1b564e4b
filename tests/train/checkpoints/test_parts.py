"""A part as files, and the manifest over all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.digest import digest_bytes
from bedplate.train.checkpoints.layout import Box, Held, Piece
from bedplate.train.checkpoints.parts import (
    Digests,
    Part,
    chunk_digest,
    manifest_of,
    part_file,
    part_index,
    part_of,
    write_file,
    write_index,
)


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_each_chunk_has_its_own_digest(data: bytes, chunk_bytes: int) -> None:
    expected = tuple(blake3.blake3(data[at : at + chunk_bytes]).hexdigest() for at in range(0, len(data), chunk_bytes))
    assert Digests(memoryview(data), chunk_bytes).result() == expected
    assert all(
        chunk_digest(data[at : at + chunk_bytes]) == found for at, found in zip(range(0, len(data), chunk_bytes), expected, strict=True)
    )


def part(rank: int = 1) -> Part:
    piece = Piece(Held("0.w", "float32", (4, 2), Box((2, 0), (2, 2)), copies=True), 128)
    return Part(rank, 144, 64, ("a", "b", "c"), (piece,), [{"module": {"d": []}}], {"torch": "x"})


def test_an_index_tells_what_is_in_a_part(tmp_path: Path) -> None:
    write_index(tmp_path, part(), durable=True)
    assert part_of((tmp_path / part_index(1)).read_bytes()) == part()
    assert [path.name for path in tmp_path.iterdir()] == ["part-1.json"]
    assert part().file == part_file(1) == "part-1.safetensors"


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_written_whole_and_never_over_another(tmp_path: Path, durable: bool) -> None:
    data = os.urandom((9 << 20) + 17)
    write_file(tmp_path / "part", memoryview(data), durable=durable)
    assert (tmp_path / "part").read_bytes() == data
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "part", memoryview(b"other"), durable=durable)
    assert (tmp_path / "part").read_bytes() == data


def test_the_manifest_covers_every_index() -> None:
    told = json.loads(manifest_of(4, {"step": 4}, {}, [b"first", b"second"]))
    assert told["parts"] == [
        {"index": "part-0.json", "sha256": digest_bytes(b"first")},
        {"index": "part-1.json", "sha256": digest_bytes(b"second")},
    ]
