"""The chunked store: a changed file costs what changed, comes back byte for byte, and damage is found."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from blake3 import blake3

from bedplate.core.errors import BedplateError, DataError, NotFound
from bedplate.data.trees import cuts
from bedplate.data.trees.chunked import add_chunked, chunks_of, read_pointer, write_out
from bedplate.data.trees.repository import Repository
from data.trees.facts import quiet, write

MB = 1 << 20


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Repository:
    return Repository.open(tmp_path, make=True)


def rewritten(path: Path, data: bytes) -> None:
    """As editors and training jobs write: a new file in the old one's place."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def stored_bytes(repository: Repository) -> int:
    return sum(path.stat().st_size for path in (repository.root / ".dvc" / "cache" / "chunks" / "packs").rglob("*") if path.is_file())


def test_the_chunks_of_a_file_lie_between_its_cuts(tmp_path: Path) -> None:
    for seed, size in ((1, 9 * MB + 12345), (2, 3 * MB), (3, 1), (4, 0), (5, 2 * MB + 7)):
        data = random.Random(seed).randbytes(size)
        (tmp_path / "x").write_bytes(data)
        told: list[int] = []
        chunks = chunks_of(tmp_path / "x", told.append)
        ends = list(cuts.ends(size, lambda at, count, data=data: data[at : at + count]))
        assert [chunk.end for chunk in chunks] == ends
        assert [chunk.begin for chunk in chunks] == [0, *ends[:-1]][: len(ends)]
        assert all(blake3(data[chunk.begin : chunk.end]).digest() == chunk.digest for chunk in chunks)


def test_a_new_file_is_its_own_pack_and_a_changed_one_costs_what_changed(repository: Repository) -> None:
    path, data = repository.root / "large", random.Random(7).randbytes(40 * MB)
    rewritten(path, data)
    time.sleep(0.03)
    first = add_chunked(repository, "large", quiet)
    assert first.new_bytes == 40 * MB
    assert first.copied_bytes in (0, 40 * MB)
    assert add_chunked(repository, "large", quiet).new_chunks == 0
    inserted = data[: 9 * MB] + b"a few bytes more" + data[9 * MB :]
    rewritten(path, inserted)
    second = add_chunked(repository, "large", quiet)
    assert 0 < second.new_bytes < 30 * MB
    assert second.copied_bytes == second.new_bytes
    assert stored_bytes(repository) == 40 * MB + second.new_bytes
    rewritten(path, inserted + b"appended")
    third = add_chunked(repository, "large", quiet)
    assert third.new_bytes < 2 * MB
    write_out(repository, "large", repository.root / "out")
    assert (repository.root / "out").read_bytes() == inserted + b"appended"


def test_every_content_comes_back_and_lost_notes_do_no_harm(repository: Repository) -> None:
    draw = random.Random(11)
    data = draw.randbytes(4 * MB)
    pointers: dict[str, tuple[bytes, bytes]] = {}
    for number in range(6):
        place, kind = draw.randrange(len(data)), draw.choice(["insert", "cut", "same", "double"])
        patch = {"insert": draw.randbytes(draw.randrange(1, 9999)), "cut": b"", "same": draw.randbytes(9), "double": data[: 2 * MB]}[kind]
        data = data[:place] + patch + data[place + (draw.randrange(MB) if kind == "cut" else len(patch) if kind == "same" else 0) :]
        rewritten(repository.root / "f", data)
        add_chunked(repository, "f", quiet)
        pointers[str(number)] = ((repository.root / "f.chunks").read_bytes(), data)
        if number == 3:
            for notes in (repository.root / ".dvc" / "tmp").glob("bedplate-chunks.db*"):
                notes.unlink()
    for name, (pointer, wanted) in pointers.items():
        (repository.root / f"{name}.chunks").write_bytes(pointer)
        write_out(repository, name, repository.root / f"{name}.out")
        assert (repository.root / f"{name}.out").read_bytes() == wanted


def test_damage_is_found_and_nothing_is_written(repository: Repository) -> None:
    rewritten(repository.root / "f", random.Random(5).randbytes(3 * MB))
    pointer = add_chunked(repository, "f", quiet).pointer
    chunks = repository.root / ".dvc" / "cache" / "chunks"
    [pack] = [path for path in (chunks / "packs").rglob("*") if path.is_file()]
    whole = pack.read_bytes()
    pack.chmod(0o644)
    for damaged in (whole[:5] + b"x" + whole[6:], whole[:-1]):
        pack.write_bytes(damaged)
        with pytest.raises(DataError, match="a chunk is damaged"):
            write_out(repository, "f", repository.root / "out")
    pack.write_bytes(whole)
    listed = chunks / "files" / pointer.name[:2] / pointer.name[2:]
    rows = json.loads(listed.read_bytes())
    for wrong, told in (
        (rows[:-1], "list of a file's chunks is damaged"),
        ([[rows[0][0], "../../x", 0, 1]], "list of a file's chunks is damaged"),
    ):
        listed.chmod(0o644)
        listed.write_text(json.dumps(wrong))
        with pytest.raises(BedplateError, match=told):
            write_out(repository, "f", repository.root / "out")
    pack.unlink()
    listed.write_text(json.dumps(rows))
    with pytest.raises(NotFound, match="lacks a pack"):
        write_out(repository, "f", repository.root / "out")
    assert not (repository.root / "out").exists()


def test_a_lost_pack_is_stored_again(repository: Repository) -> None:
    data = random.Random(6).randbytes(3 * MB)
    rewritten(repository.root / "f", data)
    add_chunked(repository, "f", quiet)
    for path in (repository.root / ".dvc" / "cache" / "chunks").rglob("*"):
        if path.is_file():
            path.unlink()
    assert add_chunked(repository, "f", quiet).new_bytes == 3 * MB
    write_out(repository, "f", repository.root / "out")
    assert (repository.root / "out").read_bytes() == data


def test_what_cannot_be_is_named(repository: Repository) -> None:
    write(repository.root, {"t/x": b"1", "bad.chunks": b"{}", "worse.chunks": b'{"name": "../x", "size_bytes": 1, "chunks": 1}'})
    with pytest.raises(NotFound, match="folders are added without --chunked"):
        add_chunked(repository, "t", quiet)
    for name in ("bad", "worse"):
        with pytest.raises(DataError, match=r"not a \.chunks file"):
            read_pointer(repository.root / f"{name}.chunks")
    with pytest.raises(NotFound, match="not added by its chunks"):
        write_out(repository, "t/x", repository.root / "out")
    with pytest.raises(BedplateError, match="the place is taken"):
        write_out(repository, "bad", repository.root / "t")


def test_a_file_that_changes_while_it_is_added_leaves_no_pack_that_lies(repository: Repository) -> None:
    path, data = repository.root / "f", random.Random(8).randbytes(3 * MB)
    rewritten(path, data)

    def writer(_: int) -> None:
        with path.open("r+b") as file:
            file.write(b"another beginning")

    with pytest.raises(DataError, match="the file changed while it was added"):
        add_chunked(repository, "f", writer)
    assert stored_bytes(repository) == 0
    rewritten(path, data)
    add_chunked(repository, "f", quiet)
    write_out(repository, "f", repository.root / "out")
    assert (repository.root / "out").read_bytes() == data
