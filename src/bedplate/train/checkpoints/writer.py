"""Writes the checkpoints of one attempt in the background; the training step waits only while its tensors are copied.

Every rank writes its part into a folder that one all-reduce named; rank 0 waits for the parts of the others, as files, and commits. So no
collective runs beside those of the training.
Does not know: when a checkpoint is due (`keeper`), or how a tier keeps it.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from bedplate.core.atomic import write_bytes
from bedplate.core.attempt import Attempt, Identity, is_alive, own_identity
from bedplate.core.digest import digest_bytes
from bedplate.core.errors import CheckpointError
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.train.checkpoints.capture import capture
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.folders import FolderPlace
from bedplate.train.checkpoints.layout import FileLayout, Held, dealt, file_layout, held_of
from bedplate.train.checkpoints.objects import PROBLEMS, ObjectPlace, Upload
from bedplate.train.checkpoints.parts import (
    CHUNK_BYTES,
    Digests,
    Part,
    manifest_of,
    part_file,
    part_index,
    write_file,
    write_index,
)
from bedplate.train.checkpoints.peers import PeerTier
from bedplate.train.checkpoints.retention import Keep, Made, superfluous
from bedplate.train.checkpoints.staging import Staging
from bedplate.train.checkpoints.tiers import Tiers
from bedplate.train.distributed import Group

PARTS_LIMIT_S = 600.0  # how long rank 0 waits for the parts of the others
ABANDONED_LIMIT_S = 1.0  # and when a rank was lost
POLL_S = 0.005
NICE = 2  # of the threads that write: the training steps go first
SAVE_BITS = 52  # a float64 has them all


@dataclass(frozen=True)
class Content:
    """What a checkpoint holds of one rank: the user's `state`, generators, facts that must fit on resuming, the newest metrics."""

    position: Position
    state: Sequence[Any]
    generators: Mapping[str, Any]
    facts: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class _Save:
    """One save on its way, apart from its bytes."""

    name: str
    base: str
    content: Content
    trees: list[Any]
    layout: FileLayout
    stall_s: float


class CheckpointWriter:
    """The writer of one rank. Every rank calls `begin` at the same steps; the rest is its own affair."""

    def __init__(self, attempt: Attempt, journal: JournalWriter, group: Group, tiers: Tiers, keep: Keep) -> None:
        self.failed = False
        self._attempt = attempt
        self._folder = str((attempt.path / "checkpoints").relative_to(attempt.state))
        self._journal = journal
        self._group = group
        self._tiers = tiers
        self._keep = keep
        self._staging = Staging()
        self._held: list[Held] | None = None
        self._written: list[int] = []
        self._ranks: list[Identity] = []
        self._layout: FileLayout | None = None
        self._thread: Thread | None = None
        self._begun: int | None = None
        self._abandoned = Event()
        self._made: dict[str, list[Made]] = {}  # by tier, oldest first
        self._earlier: list[Made] | None = None
        self._count = 0
        self._metrics: dict[str, Mapping[str, float]] = {}
        self._troubled: set[str] = set()  # tiers whose trouble was told and is not over
        self._uploads = [Upload(place, self._uploaded, partial(self._trouble, place.name)) for place in tiers.objects]

    @property
    def busy(self) -> bool:
        """Whether one is being written to memory or disk."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, content: Content) -> None:
        """Copy this rank's share of `content` and write it in the background. Every rank calls this at the same step.

        Waits for one that is being written; one of the same step is enough. Raises CheckpointError for state that cannot be kept.
        """
        self.wait()
        if content.position.step == self._begun:
            return
        if self._begun is None and self._group.rank == 0:
            for tier in self._tiers.folders:
                tier.sweep(self._folder)
        self.meet()
        self._begun = content.position.step
        started_s = time.perf_counter()
        captured = capture(content.state)
        changed, number = self._group.agree([captured.held != self._held, secrets.randbits(SAVE_BITS) if self._group.rank == 0 else 0])
        if changed:
            self._deal(captured.held)
        assert self._layout is not None
        self._staging.copy(self._layout, [captured.tensors[place] for place in self._written])
        name, base = f"{int(number):013x}", f"{self._folder}/step-{content.position.step}"
        save = _Save(name, base, content, captured.trees, self._layout, time.perf_counter() - started_s)
        self._thread = Thread(target=self._write, args=(save,), name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written to memory or disk."""
        if self._thread is not None:
            self._thread.join()

    def settle(self, limit_s: float) -> None:
        """The same, and then for copies to object stores, but for those not longer than `limit_s`."""
        self.wait()
        for upload in self._uploads:
            if not upload.wait(limit_s):
                self._tell(f"the newest checkpoint was not in {upload.place.name} when the training ended")

    def meet(self) -> None:
        """Have ranks that keep parts for one another know each other. Every rank calls this at the same place; once counts."""
        if self._tiers.peers is not None:
            self._tiers.peers.meet(self._group, self._folder)

    def abandon(self) -> None:
        """A rank was lost: parts that are not there in a second do not come any more."""
        self._abandoned.set()
        if self._tiers.peers is not None:
            self._tiers.peers.abandon()

    def close(self) -> None:
        """Nothing is asked of this rank any more. After `wait`."""
        if self._tiers.peers is not None:
            self._tiers.peers.close()

    def clear_memory(self) -> None:
        """Give the shared memory back. For after a success: then nobody goes on from here."""
        self.wait()
        if self._group.rank == 0:
            for tier in self._tiers.written:
                if not tier.durable and len(self._tiers.written) > 1 and tier is not self._tiers.folders[-1]:
                    for made in self._made.pop(tier.name, []):
                        tier.delete(made.location)

    def _deal(self, held: list[Held]) -> None:
        """Agree on who writes what. Once, and again when the state has other tensors (an optimizer has none before its first step)."""
        mine = {"identity": asdict(own_identity(self._attempt.token)), "held": [each.to_json() for each in held]}
        gathered = [json.loads(rank) for rank in self._group.gather(json.dumps(mine).encode())]
        plan = None
        if self._group.rank == 0:
            self._ranks = [Identity(**rank["identity"]) for rank in gathered]
            plan = json.dumps(dealt([[held_of(each) for each in rank["held"]] for rank in gathered])).encode()
        self._written = json.loads(self._group.broadcast(plan))[self._group.rank]
        self._held, self._layout = held, file_layout(held[place] for place in self._written)

    # -- in the background --------------------------------------------------------------------------------------------------------

    def _write(self, save: _Save) -> None:
        with suppress(OSError):  # not every system lets a thread have a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        started_s = time.perf_counter()
        data = self._staging.arrived()
        digests = Digests(data)
        location: str | None = None
        self.failed = False
        for tier in self._tiers.written:
            try:
                if isinstance(tier, FolderPlace):
                    location = self._into(tier, save, data, digests, location, started_s) or location
                elif tier.useful:
                    location = self._across(tier, save, data, digests, location, started_s) or location
            except (OSError, CheckpointError) as error:  # a full disk must not end the training; the next interval tries again
                self.failed = True
                if isinstance(tier, FolderPlace):
                    self._mark_failed(tier, save)
                self._trouble(tier.name, f"checkpoint of step {save.content.position.step} could not be written to {tier.name}: {error}")
            else:
                self._well(tier.name)
        digests.result()

    def _into(
        self, tier: FolderPlace, save: _Save, data: memoryview, digests: Digests, location: str | None, started_s: float
    ) -> str | None:
        """Write this rank's part; rank 0 commits and returns the location."""
        rank = self._group.rank
        beside = tier.begun(save.base, save.name)
        write_file(beside / part_file(rank), data, durable=tier.durable)
        write_index(beside, self._part(save, data, digests), durable=tier.durable)
        if rank != 0:
            return None
        manifest = self._manifest(beside, save)
        chosen = location or self._free(save)
        tier.commit(beside, chosen, manifest)
        self._committed(tier, save, chosen, manifest, first=location is None, write_s=time.perf_counter() - started_s)
        return chosen

    def _across(
        self, tier: PeerTier, save: _Save, data: memoryview, digests: Digests, location: str | None, started_s: float
    ) -> str | None:
        """The same into the memory of this rank's partner; the others return when rank 0 has decided."""
        try:
            index = tier.send(save.base, save.name, data, lambda: self._part(save, data, digests).to_bytes())
        except (OSError, CheckpointError):
            tier.refuse(save.name)
            raise
        if self._group.rank != 0:
            tier.offer(save.name, index)
            return None
        done = False
        try:
            indexes = tier.gathered(save.name, index, lambda rank: not is_alive(self._ranks[rank]))
            manifest = self._manifest_of(save, indexes)
            chosen = location or self._free(save)
            tier.commit(save.base, save.name, chosen, manifest)
            self._committed(tier, save, chosen, manifest, first=location is None, write_s=time.perf_counter() - started_s)
            done = True
        finally:
            tier.decide(save.name, done=done)
        return chosen

    def _part(self, save: _Save, data: memoryview, digests: Digests) -> Part:
        return Part(self._group.rank, len(data), CHUNK_BYTES, digests.result(), save.layout.pieces, save.trees, save.content.generators)

    def _free(self, save: _Save) -> str:
        """Where to: a name of its own where a checkpoint of this step lies already."""
        return save.base if all(each.free(save.base) for each in self._tiers.folders) else f"{save.base}-{save.name}"

    def _manifest(self, beside: Path, save: _Save) -> bytes:
        """Wait for the indexes of all parts. Raises CheckpointError when one does not come."""
        deadline_s = time.monotonic() + PARTS_LIMIT_S
        indexes: list[bytes] = []
        for rank in range(self._group.world_size):
            while not (beside / part_index(rank)).exists():
                if self._abandoned.wait(POLL_S):
                    deadline_s = min(deadline_s, time.monotonic() + ABANDONED_LIMIT_S)
                    time.sleep(POLL_S)
                gone = not is_alive(self._ranks[rank]) and not (beside / part_index(rank)).exists()
                if gone or (beside / _failed(rank)).exists() or time.monotonic() > deadline_s:
                    raise CheckpointError(f"the part of rank {rank} did not come", value=str(beside))
            indexes.append((beside / part_index(rank)).read_bytes())
        return self._manifest_of(save, indexes)

    def _manifest_of(self, save: _Save, indexes: Sequence[bytes]) -> bytes:
        position = save.content.position
        return manifest_of(position.step, asdict(position), save.content.facts, indexes)

    def _committed(self, tier: FolderPlace | PeerTier, save: _Save, location: str, manifest: bytes, *, first: bool, write_s: float) -> None:
        """Tell, then take away what is superfluous now."""
        if self._earlier is None:
            self._recall()
        position = save.content.position
        times = {"stall_s": round(save.stall_s, 6), "write_s": round(write_s, 6)}
        if first:
            known = {"step": position.step, "location": location, "digest": digest_bytes(manifest)}
            metrics = {name: value for name, value in save.content.metrics.items() if math.isfinite(value)}
            self._journal.write(
                "checkpoint", **known, epoch=position.epoch, position=position.sample, metrics=metrics, tier=tier.name, **times
            )
        else:
            self._journal.write("checkpoint_stored", step=position.step, location=location, tier=tier.name, write_s=times["write_s"])
        self._journal.sync()
        if first:
            self._count += 1
            self._metrics[location] = save.content.metrics
        if (
            isinstance(tier, FolderPlace) and not tier.durable and tier.name not in self._made
        ):  # the one that this run went on from is not needed any more
            tier.reclaim(Path(self._attempt.state), self._attempt.path)
        self._retain(tier, Made(location, self._count, save.content.metrics))
        if isinstance(tier, FolderPlace) and tier is self._tiers.folders[-1]:
            for upload in self._uploads:
                upload.offer(tier.path(location), location)

    def _retain(self, tier: FolderPlace | PeerTier | ObjectPlace, made: Made) -> None:
        known = self._made.setdefault(tier.name, list(self._earlier or ()))
        known.append(made)
        keep = Keep() if not isinstance(tier, ObjectPlace) and not tier.durable else self._keep
        for each in superfluous(known, keep):
            if isinstance(tier, ObjectPlace) or not any(upload.needs(each.location) for upload in self._uploads):
                tier.delete(each.location)
                known.remove(each)

    def _recall(self) -> None:
        """Learn what this attempt committed before its ranks were made anew."""
        entries = [entry.body for entry in JournalReader(self._attempt.path).read() if entry.kind == "checkpoint"]
        self._earlier = [Made(body["location"], number, body.get("metrics", {})) for number, body in enumerate(entries, 1)]
        self._count = len(entries)

    def _uploaded(self, place: ObjectPlace, location: str) -> None:
        """A copy is whole in an object store."""
        number = next((made.number for tier in list(self._made.values()) for made in tier if made.location == location), self._count)
        self._well(place.name)
        self._journal.write("checkpoint_stored", step=_step_of(location), location=location, tier=place.name)
        try:
            self._retain(place, Made(location, number, self._metrics.get(location, {})))
        except PROBLEMS as error:  # the next one tries again
            self._tell(f"old checkpoints could not be deleted in {place.name}: {error}")

    def _mark_failed(self, tier: FolderPlace, save: _Save) -> None:
        with suppress(OSError):  # then rank 0 finds out by waiting
            write_bytes(tier.begun(save.base, save.name) / _failed(self._group.rank), b"")

    def _trouble(self, tier: str, text: str) -> None:
        """A tier fails: that is noticed once, until it is well again, and ends nothing."""
        if tier not in self._troubled:
            self._troubled.add(tier)
            self._journal.write("notice", failure="storage", message=text, tier=tier, rank=self._group.rank)

    def _well(self, tier: str) -> None:
        if tier in self._troubled:
            self._troubled.discard(tier)
            self._tell(f"{tier} takes checkpoints again")

    def _tell(self, text: str) -> None:
        self._journal.write("message", text=text)


def _failed(rank: int) -> str:
    return f"part-{rank}.failed"


def _step_of(location: str) -> int:
    return int(location.rpartition("step-")[2].partition("-")[0])
