"""The tiers of a job's checkpoints, by what it declares: memory, a peer's memory, disk, object stores.

Does not know: what is kept in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.errors import SpecError
from bedplate.train.checkpoints.folders import FolderPlace, disk, shared_memory
from bedplate.train.checkpoints.objects import SCHEMES, ObjectPlace
from bedplate.train.checkpoints.peers import PeerTier
from bedplate.train.checkpoints.reading import Place

DEFAULT_TIERS = ("disk",)


@dataclass(frozen=True)
class Tiers:
    """Folders and peers are written by every rank, the fastest first; object stores are filled from the last folder, in the background."""

    folders: tuple[FolderPlace, ...]
    objects: tuple[ObjectPlace, ...]
    peers: PeerTier | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them, in the order in which they are read."""
        return (*self.written, *self.objects)

    @property
    def written(self) -> tuple[FolderPlace | PeerTier, ...]:
        """Those that every rank writes to, in that order: memory, the peers' memory, the disk."""
        memory = tuple(each for each in self.folders if not each.durable)
        on_disk = tuple(each for each in self.folders if each.durable)
        return (*memory, *((self.peers,) if self.peers else ()), *on_disk)


def tiers_of(declared: Sequence[str] | None, state: Path) -> Tiers:
    """The tiers that a job declares; an object store alone is filled from the disk, and peers hold a second copy of what memory holds.

    Raises SpecError for what is none.
    """
    names = tuple(declared or DEFAULT_TIERS)
    for name in names:
        if name not in ("memory", "peer", "disk") and not name.startswith(SCHEMES):
            raise SpecError("unknown tier", value=name, fix="use memory, peer, disk, or s3://bucket/prefix")
    memory = (shared_memory(state),) if {"memory", "peer"} & set(names) else ()
    on_disk = (disk(state),) if "disk" in names or not memory else ()
    objects = tuple(ObjectPlace.of(name) for name in names if name.startswith(SCHEMES))
    return Tiers((*memory, *on_disk), objects, PeerTier(state) if "peer" in names else None)
