"""A part as files, and the manifest over all."""

from __future__ import annotations

import itertools
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


@given(
    st.integers(0, 99), st.integers(0, 10**12), st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers() | st.lists(st.booleans()), max_size=3),
)  # fmt: skip
def test_any_index_comes_back_from_its_bytes(rank: int, nbytes: int, chunks: list[str], generators: dict[str, object]) -> None:
    piece = Piece(Held("0.w", "int8", (4,), Box((1,), (2,)), copies=True), 64)
    one = Part(rank, nbytes, 64, tuple(chunks), (piece,), [{"t": "é"}, None], generators)
    assert part_of(one.to_bytes()) == one
    assert one.to_bytes() == part_of(one.to_bytes()).to_bytes(), "equal parts have equal bytes, and so equal digests"


def test_the_digest_of_a_chunk_is_blake3_by_its_published_vector() -> None:
    # https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json, the input of no bytes
    assert chunk_digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert len(chunk_digest(memoryview(b"abc"))) == 64


def test_one_changed_byte_changes_the_digest_of_its_chunk_alone() -> None:
    data = bytearray(1000)
    before = Digests(memoryview(bytes(data)), 100).result()
    data[250] ^= 1
    after = Digests(memoryview(data), 100).result()
    assert [number for number, (one, other) in enumerate(zip(before, after, strict=True)) if one != other] == [2]


@pytest.mark.parametrize(("size", "chunks"), [(0, 0), (1, 1), (99, 1), (100, 1), (101, 2), (200, 2), (201, 3)])
def test_a_last_chunk_may_be_short(size: int, chunks: int) -> None:
    assert len(Digests(memoryview(bytes(size)), 100).result()) == chunks


def test_an_index_takes_the_place_of_an_older_one_and_of_a_half_written_one(tmp_path: Path) -> None:
    write_index(tmp_path, part(), durable=False)
    newer = Part(1, 7, 64, ("z",), (), [], {})
    write_index(tmp_path, newer, durable=False)
    assert part_of((tmp_path / "part-1.json").read_bytes()) == newer
    (tmp_path / "part-1.tmp").write_bytes(b"{ha")
    with pytest.raises(FileExistsError):
        write_index(tmp_path, part(), durable=False)
    assert part_of((tmp_path / "part-1.json").read_bytes()) == newer, "what was whole stays whole"


def test_files_of_ranks_have_names_of_their_own() -> None:
    names = [name for rank in range(30) for name in (part_file(rank), part_index(rank))]
    assert len(set(names)) == 60


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_a_file_of_any_size_is_only_its_owners_to_write(tmp_path: Path, size: int) -> None:
    write_file(tmp_path / "part", memoryview(bytes(size)), durable=False)
    assert (tmp_path / "part").stat().st_size == size
    assert (tmp_path / "part").stat().st_mode & 0o022 == 0


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "part", memoryview(b"x"), durable=False)


def test_the_manifest_has_place_facts_and_the_number_of_ranks_and_depends_on_each() -> None:
    told = json.loads(manifest_of(4, {"step": 4, "loop": 1}, {"seed": 3}, [b"a", b"b", b"c"]))
    assert (told["format"], told["step"], told["position"], told["facts"], told["world_size"]) == (
        2,
        4,
        {"step": 4, "loop": 1},
        {"seed": 3},
        3,
    )
    variants = [
        manifest_of(4, {"step": 4}, {}, [b"a", b"b"]),
        manifest_of(5, {"step": 4}, {}, [b"a", b"b"]),
        manifest_of(4, {"step": 5}, {}, [b"a", b"b"]),
        manifest_of(4, {"step": 4}, {"seed": 1}, [b"a", b"b"]),
        manifest_of(4, {"step": 4}, {}, [b"b", b"a"]),
        manifest_of(4, {"step": 4}, {}, [b"a"]),
    ]
    assert all(one != other for one, other in itertools.combinations(variants, 2))
    assert manifest_of(1, {"a": 1, "b": 2}, {}, []) == manifest_of(1, {"b": 2, "a": 1}, {}, []), "the order of keys says nothing"
