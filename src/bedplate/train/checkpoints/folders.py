"""Checkpoints in folders: on the disk, and in the host's shared memory, which outlives the processes but not the machine.

Parts are written into a folder with a hidden name that all ranks of one save know; the manifest is put there last, and one rename makes
the folder a checkpoint. Does not know: what is in a part, or who waits for whom (`commit`).
"""

from __future__ import annotations

import mmap
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.atomic import confined, sync
from bedplate.core.attempt import is_alive, read_identity
from bedplate.core.digest import digest_bytes
from bedplate.core.errors import BedplateError, CheckpointError
from bedplate.train.checkpoints.parts import MANIFEST_FILE, write_file

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - it is where the kernel keeps it
DIGEST_PREFIX = 16


@dataclass(frozen=True)
class FolderPlace:
    """One tier of folders below `root`. `durable`: what is written survives power loss."""

    name: str
    root: Path
    durable: bool

    def begun(self, location: str, save: str) -> Path:
        """The folder into which the parts of save number `save` go; every rank may make it. Raises OSError."""
        folder = self._folder(location)
        beside = folder.with_name(f".{folder.name}.{save}.tmp")
        beside.mkdir(parents=True, exist_ok=True)
        return beside

    def commit(self, beside: Path, location: str, manifest: bytes) -> None:
        """Make what lies `beside` the checkpoint at `location`. Raises OSError; a committed checkpoint is never written over."""
        write_file(beside / MANIFEST_FILE, memoryview(manifest), durable=self.durable)
        if self.durable:
            sync(beside)
        beside.rename(self._folder(location))
        if self.durable:
            sync(self._folder(location).parent)

    def free(self, location: str) -> bool:
        """Whether nothing lies at `location`."""
        return not self._folder(location).exists()

    def delete(self, location: str) -> None:
        """Take a checkpoint away; its name goes first, so that a half-deleted one is none."""
        folder = self._folder(location)
        gone = folder.with_name(f".{folder.name}.gone")
        try:
            folder.rename(gone)
        except OSError:
            gone = folder
        shutil.rmtree(gone, ignore_errors=True)

    def sweep(self, locations: str) -> None:
        """Take away, below `locations`, what saves that were killed have left."""
        folder = self._folder(locations)
        for each in (*folder.glob(".*.tmp"), *folder.glob(".*.gone")):
            shutil.rmtree(each, ignore_errors=True)

    def reclaim(self, state: Path, own: Path) -> None:
        """Give back what attempts that are over have left in memory, but for `own` (the folder of an attempt below `state`)."""
        for folder in self.root.glob("runs/*/*"):
            attempt = state / folder.relative_to(self.root)
            identity = read_identity(attempt)
            if attempt != own and identity is not None and not is_alive(identity):
                shutil.rmtree(folder, ignore_errors=True)

    def small(self, location: str, name: str) -> bytes:
        """The content of a small file. Raises CheckpointError when it cannot be read."""
        try:
            return (self._folder(location) / name).read_bytes()
        except OSError as error:
            raise CheckpointError("a checkpoint's file cannot be read", value=f"{self.name}: {location}/{name}") from error

    def file(self, location: str, name: str, nbytes: int) -> MappedFile:
        """A file of that size. Raises CheckpointError when it is not there, or of another size."""
        path = self._folder(location) / name
        try:
            if path.stat().st_size != nbytes:
                raise CheckpointError("a checkpoint's file is short or long", value=f"{self.name}: {location}/{name}")
            return MappedFile(path)
        except (OSError, ValueError) as error:
            raise CheckpointError("a checkpoint's file cannot be read", value=f"{self.name}: {location}/{name}") from error

    def path(self, location: str) -> Path:
        """The folder of a checkpoint."""
        return self._folder(location)

    def _folder(self, location: str) -> Path:
        try:
            return confined(self.root, location)
        except BedplateError as error:
            raise CheckpointError(error.what, value=error.value, fix=error.fix) from error


class MappedFile:
    """A file in memory, page by page as it is read. A private mapping: torch wants memory that it may write to."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        finally:
            os.close(descriptor)

    def chunk(self, begin: int, end: int) -> memoryview:
        """The bytes from `begin` to before `end`."""
        return memoryview(self._map)[begin:end]


def disk(state: Path) -> FolderPlace:
    """The tier of a project's state folder."""
    return FolderPlace("disk", state, durable=True)


def shared_memory(state: Path, root: Path = SHARED_MEMORY) -> FolderPlace:
    """The tier of this host's memory, apart for each user and state folder."""
    mine = f"bedplate-{os.getuid()}-{digest_bytes(str(state.resolve()).encode())[:DIGEST_PREFIX]}"
    return FolderPlace("memory", root / mine, durable=False)
