"""The tier `peer`: what a lost host had in its memory comes back from its partner's, over a real connection."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, read_attempt
from bedplate.core.digest import digest_bytes
from bedplate.core.errors import CheckpointError
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.folders import shared_memory
from bedplate.train.checkpoints.layout import Box, Held, file_layout
from bedplate.train.checkpoints.parts import Digests, Part, manifest_of
from bedplate.train.checkpoints.peers import PeerTier, partner
from bedplate.train.checkpoints.reading import opened
from bedplate.train.checkpoints.retention import Keep
from bedplate.train.checkpoints.tiers import tiers_of
from bedplate.train.checkpoints.writer import CheckpointWriter, Content
from train.samples import attempt_in, journal_of, stored_in

BASE = "runs/r1/1/checkpoints/step-3"
SAVE = "00000000000ab"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for each in (tmp_path, tmp_path / "whole"):
        shutil.rmtree(shared_memory(each).root, ignore_errors=True)


class Ring:
    """What `Group` is to a tier, for ranks that are threads of one process."""

    def __init__(self, rank: int, table: dict[str, Any]) -> None:
        self.rank, self.world_size, self.address = rank, table["size"], "127.0.0.1"
        self._table, self._turn = table, 0

    def gather(self, data: bytes) -> list[bytes]:
        turn = self._table.setdefault("gather", {})
        turn[self.rank] = data
        self._table["barrier"].wait(10)
        return [turn[rank] for rank in range(self.world_size)] if self.rank == 0 else []

    def broadcast(self, data: bytes | None, source: int = 0) -> bytes:
        self._turn += 1
        if self.rank == source:
            self._table[f"broadcast-{self._turn}"] = data
        self._table["barrier"].wait(10)
        return bytes(self._table[f"broadcast-{self._turn}"])


def together(*calls: Any) -> list[Any]:
    """Call all at the same time; what they returned, or the error that they raised."""
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            results[number] = calls[number]()
        except (CheckpointError, OSError) as error:
            results[number] = error

    threads = [Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def hosts_of(state: Path, size: int, lives: str = "a") -> list[PeerTier]:
    """Tiers of ranks each on a host of its own, with memory of its own, which have met."""
    table: dict[str, Any] = {"size": size, "barrier": Barrier(size)}
    tiers = [PeerTier(state, state / f"host-{rank}", f"node-{rank}") for rank in range(size)]
    together(*[lambda rank=rank: tiers[rank].meet(Ring(rank, table), f"runs/r1/{lives}/checkpoints") for rank in range(size)])
    return tiers


def part_of(rank: int) -> tuple[Part, memoryview]:
    tensor = torch.arange(8, dtype=torch.float32) + 100 * rank
    layout = file_layout([Held(f"0.w{rank}", "float32", (8,), Box((0,), (8,)), False)])
    data = memoryview(bytearray(layout.header) + bytearray(layout.nbytes - len(layout.header)))
    data[layout.pieces[0].begin : layout.pieces[0].begin + 32] = tensor.numpy().tobytes()
    digests = Digests(data).result()
    return Part(rank, len(data), 4 << 20, digests, layout.pieces, [{"other": {"d": []}}], {}), data


def save(tiers: list[PeerTier], gone: int | None = None) -> tuple[list[Any], str]:
    """Save one checkpoint over all tiers but the one of `gone`; what each rank met, and the manifest's digest."""
    digest = ""

    def first() -> None:
        nonlocal digest
        part, data = part_of(0)
        done = False
        try:
            index = tiers[0].send(BASE, SAVE, data, part.to_bytes)
            indexes = tiers[0].gathered(SAVE, index, lambda rank: rank == gone)
            manifest = manifest_of(3, {"loop": 0, "epoch": 0, "sample": 9, "step": 3}, {}, indexes)
            digest = digest_bytes(manifest)
            tiers[0].commit(BASE, SAVE, BASE, manifest)
            done = True
        finally:
            tiers[0].decide(SAVE, done=done)

    def other(rank: int) -> None:
        part, data = part_of(rank)
        tiers[rank].offer(SAVE, tiers[rank].send(BASE, SAVE, data, part.to_bytes))

    ranks = [rank for rank in range(1, len(tiers)) if rank != gone]
    return together(first, *[lambda rank=rank: other(rank) for rank in ranks]), digest


@given(st.lists(st.integers(0, 3), min_size=2, max_size=16))
def test_a_partner_is_another_rank_and_on_another_node_where_there_is_one(nodes: list[int]) -> None:
    names = [str(node) for node in nodes]
    for rank in range(len(names)):
        other = partner(rank, names)
        assert other != rank
        assert names[other] != names[rank] or len(set(names)) == 1


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_on_one_node_every_rank_keeps_for_exactly_one_other(size: int) -> None:
    assert sorted(partner(rank, ["a"] * size) for rank in range(size)) == list(range(size))


def test_a_part_that_its_host_lost_is_read_from_the_partner(state: Path) -> None:
    tiers = hosts_of(state, 2)
    results, _ = save(tiers)
    assert results == [None, None]
    shutil.rmtree(state / "host-1")  # the host of rank 1 is gone; rank 0 kept its part
    assert json.loads(tiers[0].small(BASE, "part-1.json"))["rank"] == 1
    for tier in tiers:
        tier.close()
    again = hosts_of(state, 2, "b")
    with pytest.raises(CheckpointError, match="with no peer"):
        again[1].small(BASE, "part-0.json")  # this one was kept by the lost host alone: there the tier `memory` has it
    stored = again[1].file(BASE, "part-1.safetensors", len(part_of(1)[1]))
    assert bytes(stored.chunk(0, 1 << 20)) == bytes(part_of(1)[1])


def test_every_host_knows_the_manifest_and_reads_all_parts(state: Path) -> None:
    tiers = hosts_of(state, 4)
    results, digest = save(tiers)
    assert results == [None] * 4
    for tier in tiers:
        stored = opened(BASE, digest, [tier])
        stored.verify(range(4))
        assert stored.position == Position(0, 0, 9, 3)
        assert stored.read("0.w2", Box((2,), (3,))).tolist() == [202.0, 203.0, 204.0]
    tiers[0].delete(BASE)
    with pytest.raises(CheckpointError, match="with no peer"):
        tiers[1].small(BASE, "manifest.json")


def test_a_rank_that_never_comes_costs_the_copy_and_nobody_waits_for_it(state: Path) -> None:
    tiers = hosts_of(state, 4)
    results, _ = save(tiers, gone=3)
    assert "part of rank 3 did not come" in str(results[0])
    assert all("rank 0 could not commit it" in str(each) for each in results[1:])
    with pytest.raises(CheckpointError):
        tiers[0].small(BASE, "manifest.json")


def test_a_partner_whose_memory_cannot_be_written_is_told_of(state: Path) -> None:
    tiers = hosts_of(state, 2)
    shutil.rmtree(state / "host-0", ignore_errors=True)
    (state / "host-0").write_text("no folder")
    part, data = part_of(1)
    with pytest.raises(CheckpointError, match="Not a directory"):
        tiers[1].send(BASE, SAVE, data, part.to_bytes)


def test_what_a_killed_save_left_is_swept_when_the_ranks_meet_again(state: Path) -> None:
    tiers = hosts_of(state, 2, "1")
    part, data = part_of(0)
    tiers[0].send(BASE, SAVE, data, part.to_bytes)
    left = list(state.glob("host-1/*/peer/rank-1/runs/r1/1/checkpoints/.step-3*"))
    assert len(left) == 1
    for tier in tiers:
        tier.close()
    hosts_of(state, 2, "1")
    assert not left[0].exists()


@pytest.mark.parametrize("name", ["../../escape", "part-0.json.tmp", "", None])
def test_other_names_than_those_of_a_checkpoint_are_refused(state: Path, name: Any) -> None:
    tiers = hosts_of(state, 2)
    with pytest.raises(CheckpointError):
        tiers[1].chunk(tiers[1]._known().addresses[0], BASE, name, 0, 10)
    with pytest.raises(CheckpointError):
        tiers[1].chunk(tiers[1]._known().addresses[0], "../../..", "part-0.json", 0, 10)


def weights(attempt: Attempt) -> dict[str, torch.Tensor]:
    return load_file(attempt.out / "model" / "model.safetensors")


def disturbed(state: Path, world_size: int, mesh: dict[str, int] | None = None, **params: Any) -> Attempt:
    """An attempt that keeps a checkpoint in memory and with peers all the time."""
    params = {"epochs": 1, **params}
    attempt = attempt_in(state, world_size=world_size, function="disturbed", restarts_left=3, params=params, recovery="fork")
    often = {"checkpoint": {"tiers": ["memory", "peer"], "every_s": 0}, **({"mesh": mesh} if mesh else {})}
    attempt = replace(attempt, spec={**attempt.spec, **often})
    write_json(attempt.path / ATTEMPT_FILE, attempt.to_json())
    return attempt


@pytest.mark.parametrize(("world_size", "mesh"), [(2, None), (4, {"data": 2, "shard": 2})])
def test_a_rank_that_is_killed_with_its_memory_is_restored_from_its_partner_bit_for_bit(
    hosts: Any, state: Path, world_size: int, mesh: dict[str, int] | None
) -> None:
    whole = disturbed(state / "whole", world_size, mesh)
    attempt = disturbed(state, world_size, mesh, at="before:10", who=1, act="lose_host")
    assert (hosts.run(whole), hosts.run(attempt)) == (0, 0)
    (restart,) = [entry.body for entry in journal_of(attempt, "restart")]
    assert 0 < min(stored_in(attempt, "peer")) <= restart["resumed_at"]
    ours, theirs = weights(attempt), weights(whole)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    told = " ".join(entry.body["text"] for entry in journal_of(attempt, "message"))
    assert "it was read from peer" in told
    assert not list(shared_memory(state).root.glob("peer/*/runs/r1/1/checkpoints/step-*"))  # given back after the success


def test_bytes_that_were_changed_at_the_partner_are_found_by_their_digest(state: Path) -> None:
    tiers = hosts_of(state, 2)
    _, digest = save(tiers)
    (kept,) = state.glob("host-0/*/peer/rank-0/**/part-1.safetensors")
    content = bytearray(kept.read_bytes())
    content[-3] ^= 1
    kept.write_bytes(content)
    stored = opened(BASE, digest, [tiers[0]])
    stored.verify([0])
    with pytest.raises(CheckpointError, match="damaged"):
        stored.verify([1])


class Meeting(Ring):
    """A ring whose ranks can also agree, for writers that are threads."""

    def agree(self, values: list[float]) -> list[float]:
        self._turn += 1
        said = self._table.setdefault(f"agree-{self._turn}", {})
        said[self.rank] = values
        self._table["barrier"].wait(10)
        return [max(each) for each in zip(*said.values(), strict=True)]


class State:
    """A tensor of one rank."""

    def __init__(self, rank: int, step: int) -> None:
        self.tensor = torch.full((6,), 10.0 * rank + step)

    def state_dict(self) -> dict[str, Any]:
        return {"w": self.tensor}


def writers(state: Path, size: int, lives: str = "1") -> list[CheckpointWriter]:
    """The writers of ranks that are threads of this process and share one host's memory."""
    attempt = attempt_in(state) if not (state / "runs").exists() else read_attempt(state / "runs" / "r1" / "1")
    table: dict[str, Any] = {"size": size, "barrier": Barrier(size)}
    made = []
    for rank in range(size):
        tiers = replace(tiers_of(["memory", "peer"], state), peers=PeerTier(state))
        journal = JournalWriter(attempt.path, f"rank-{rank}-{lives}")
        made.append(CheckpointWriter(attempt, journal, Meeting(rank, table), tiers, Keep()))  # type: ignore[arg-type]
    return made


def write(made: list[CheckpointWriter], *steps: int) -> None:
    for step in steps:
        contents = [Content(Position(0, 0, step, step), [State(rank, step)], {}, {}, {}) for rank in range(len(made))]
        calls = [
            lambda each=each, content=content: (each.begin(content), each.wait()) for each, content in zip(made, contents, strict=True)
        ]
        results = together(*calls)
        assert results == [(None, None)] * len(made)


def kept(state: Path) -> dict[str, list[str]]:
    """The parts in each rank's memory, by rank and checkpoint."""
    found: dict[str, list[str]] = {}
    for path in sorted(shared_memory(state).root.glob("peer/*/runs/r1/1/checkpoints/step-*/part-*.json")):
        found.setdefault(f"{path.parts[-7]} {path.parts[-2]}", []).append(path.stem)
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_writers_keep_the_newest_two_with_their_partners_and_give_them_back_in_the_end(state: Path, size: int) -> None:
    made = writers(state, size)
    write(made, 1, 2, 3)
    attempt = read_attempt(state / "runs" / "r1" / "1")
    assert stored_in(attempt, "peer") == [1, 2, 3]
    assert stored_in(attempt, "memory") == [1, 2, 3]
    partners = {partner(rank, ["here"] * size): rank for rank in range(size)}
    assert kept(state) == {f"rank-{keeper} step-{step}": [f"part-{rank}"] for keeper, rank in partners.items() for step in (2, 3)}
    known = [entry.body for entry in journal_of(attempt, "checkpoint")][-1]
    shutil.rmtree(shared_memory(state).root / "runs")  # the tier `memory` is gone, the copies are not
    stored = opened(known["location"], known["digest"], [PeerTier(state)])  # without a meeting, as the command that exports does
    stored.verify(range(size))
    assert {float(stored.read("0.w", Box((0,), (6,)))[0])} == {3.0}  # what is equal by name is the lowest rank's
    made[0].clear_memory()
    assert kept(state) == {}
    for each in made:
        each.close()


def test_a_rank_that_cannot_send_is_noticed_and_the_tier_memory_has_the_checkpoint(state: Path) -> None:
    made = writers(state, 2)
    write(made, 1)
    shutil.rmtree(shared_memory(state).root / "peer" / "rank-0")
    (shared_memory(state).root / "peer" / "rank-0").write_text("in the way of what rank 1 sends")
    write(made, 2)
    attempt = read_attempt(state / "runs" / "r1" / "1")
    assert stored_in(attempt, "peer") == [1]
    assert stored_in(attempt, "memory") == [1, 2]
    notices = {entry.body["rank"]: entry.body for entry in journal_of(attempt, "notice")}
    assert {notice["failure"] for notice in notices.values()} == {"storage"}
    assert "the partner of rank 1 could not keep its part" in notices[0]["message"]
    assert "Not a directory" in notices[1]["message"]
    assert all(each.failed for each in made)
    (shared_memory(state).root / "peer" / "rank-0").unlink()
    write(made, 3)
    assert stored_in(attempt, "peer") == [1, 3]
    assert [entry.body["text"] for entry in journal_of(attempt, "message")] == ["peer takes checkpoints again"] * 2
    for each in made:
        each.close()


def test_one_rank_alone_has_no_peer_and_writes_to_memory(state: Path) -> None:
    (alone,) = writers(state, 1)
    write([alone], 1)
    attempt = read_attempt(state / "runs" / "r1" / "1")
    assert (stored_in(attempt, "memory"), stored_in(attempt, "peer")) == ([1], [])
    assert not journal_of(attempt, "notice")
    alone.close()
