"""Checkpoints in an object store (S3 and what speaks it, by obstore): copied there in the background, tried again until it works.

The manifest is put last, so what has one is whole. Credentials and endpoint come from the environment, as obstore reads it (`AWS_*`).
Does not know: training steps; a store that is away for a day costs them nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from bedplate.core.errors import CheckpointError, SpecError
from bedplate.train.checkpoints.parts import MANIFEST_FILE

SCHEMES = ("s3://", "gs://", "az://", "file://")
BACK_OFF_S = (1.0, 60.0)  # doubled from the one to the other
PROBLEMS = (BaseError, OSError)


@dataclass(frozen=True)
class ObjectPlace:
    """One tier: the objects below a URL."""

    name: str
    store: Any

    @staticmethod
    def of(url: str) -> ObjectPlace:
        """The tier at `url`. Raises SpecError for one that cannot be."""
        try:
            return ObjectPlace(url, from_url(url))
        except PROBLEMS as error:
            raise SpecError(f"no object store: {error}", value=url, fix="write s3://bucket/prefix") from error

    def small(self, location: str, name: str) -> bytes:
        """The content of a small object. Raises CheckpointError when it cannot be read."""
        try:
            return bytes(obstore.get(self.store, f"{location}/{name}").bytes())
        except PROBLEMS as error:
            raise _unreadable(self, location, name) from error

    def file(self, location: str, name: str, nbytes: int) -> ObjectBytes:
        """An object of that size. Raises CheckpointError when it is not there, or of another size."""
        try:
            found = obstore.head(self.store, f"{location}/{name}")["size"]
        except PROBLEMS as error:
            raise _unreadable(self, location, name) from error
        if found != nbytes:
            raise CheckpointError("a checkpoint's file is short or long", value=f"{self.name}: {location}/{name}")
        return ObjectBytes(self, location, name)

    def copy(self, folder: Path, location: str) -> None:
        """Put the files of the checkpoint in `folder` there, its manifest last. Raises what obstore does."""
        names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
        for name in (*names, MANIFEST_FILE):
            obstore.put(self.store, f"{location}/{name}", folder / name)

    def delete(self, location: str) -> None:
        """Take a checkpoint away, its manifest first. Raises what obstore does."""
        obstore.delete(self.store, f"{location}/{MANIFEST_FILE}")
        rest = [entry["path"] for entry in obstore.list(self.store, f"{location}/").collect()]
        if rest:
            obstore.delete(self.store, rest)


@dataclass(frozen=True)
class ObjectBytes:
    """An object, read by ranges."""

    place: ObjectPlace
    location: str
    name: str

    def chunk(self, begin: int, end: int) -> memoryview:
        """The bytes from `begin` to before `end`. Raises CheckpointError."""
        try:
            data = obstore.get_range(self.place.store, f"{self.location}/{self.name}", start=begin, end=end)
        except PROBLEMS as error:
            raise _unreadable(self.place, self.location, self.name) from error
        return memoryview(bytearray(data))


@dataclass
class Upload:
    """The thread that copies committed checkpoints to one object store. While it tries, only the newest waits: older ones are left out."""

    place: ObjectPlace
    done: Callable[[ObjectPlace, str], None]
    tell: Callable[[str], None]
    _waiting: tuple[Path, str] | None = None
    _current: str | None = None
    _closed: bool = False
    _thread: Thread | None = None
    _changed: Condition = field(default_factory=Condition)

    def offer(self, folder: Path, location: str) -> None:
        """Copy the checkpoint in `folder` as soon as that can be. Returns at once."""
        with self._changed:
            self._waiting = (folder, location)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="checkpoint-upload", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def needs(self, location: str) -> bool:
        """Whether the files of that checkpoint are still to be copied."""
        with self._changed:
            return location in (self._current, self._waiting[1] if self._waiting else None)

    def wait(self, limit_s: float) -> bool:
        """Wait until nothing is to be copied, but not longer; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._current is None and self._waiting is None, limit_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                assert self._waiting is not None
                (folder, location), self._waiting = self._waiting, None
                self._current = location
            self._copy(folder, location)
            with self._changed:
                self._current = None
                self._changed.notify_all()

    def _copy(self, folder: Path, location: str) -> None:
        """Try until it is done, or a newer one waits."""
        pause_s, told = BACK_OFF_S[0], False
        while True:
            try:
                self.place.copy(folder, location)
                self.done(self.place, location)
                return
            except PROBLEMS as error:
                if not told:
                    told = True
                    self.tell(f"{location} is not in {self.place.name} yet, it is tried again: {_line(error)}")
            with self._changed:
                if self._changed.wait_for(lambda: self._waiting is not None, pause_s):
                    return
            pause_s = min(2 * pause_s, BACK_OFF_S[1])


def _unreadable(place: ObjectPlace, location: str, name: str) -> CheckpointError:
    return CheckpointError("a checkpoint's file cannot be read", value=f"{place.name}: {location}/{name}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
