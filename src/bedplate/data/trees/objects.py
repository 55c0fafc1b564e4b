"""A folder of objects named by their MD5, `ab/cdef…`, as DVC lays out its cache and its remotes.

An object is there whole and read-only, or not at all.

Does not know: which objects belong together.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import get_ident

from bedplate.core.errors import DataError
from bedplate.data.trees.link import READ_ONLY, linked
from bedplate.data.trees.manifest import md5_of
from bedplate.data.trees.scan import BLOCK_BYTES, Found, digests
from bedplate.data.trees.state import Stamp, stamp

MANY = 500
ARRIVING = "arriving"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True)
class Objects:
    """The objects in `folder`."""

    folder: Path

    @cached_property
    def _folder(self) -> str:
        return str(self.folder)

    @cached_property
    def _arriving(self) -> str:
        return f"{self.folder.parent}/{ARRIVING}"

    @cached_property
    def _own(self) -> str:
        """What tells arriving files from those of other processes; asking the kernel for each takes as long as writing it."""
        return os.urandom(8).hex()

    def path(self, md5: str) -> Path:
        """Where an object lies, or would."""
        return self.folder / md5[:2] / md5[2:]

    def name(self, md5: str) -> str:
        """The same as text: a path object costs as much as a call of the kernel."""
        return f"{self._folder}/{md5[:2]}/{md5[2:]}"

    def present(self, wanted: Collection[str]) -> set[str]:
        """Those of the wanted that are there; many are looked for by listing folders."""
        if len(wanted) < MANY:
            return {md5 for md5 in wanted if self.path(md5).exists()}
        names = set(wanted)
        found: set[str] = set()
        for prefix in {md5[:2] for md5 in names}:
            folder = self.folder / prefix
            if folder.is_dir():
                found |= {prefix + name for name in os.listdir(folder)} & names  # noqa: PTH208 - names, not paths
        return found

    def is_at(self, md5: str, there: Stamp) -> bool:
        """Whether an object has that stamp."""
        try:
            return stamp(os.stat(self.name(md5))) == there  # noqa: PTH116 - 20,000 times
        except FileNotFoundError:
            return False

    def put_bytes(self, md5: str, data: bytes) -> None:
        """Store an object. Raises DataError when the bytes are not those of that name."""
        if md5_of(data) != md5[:32]:
            raise DataError("an object is damaged", value=md5, fix="pull it again, or add its file again")
        name = self._free(md5)
        try:
            try:
                descriptor = os.open(name, _NEW, READ_ONLY)
            except FileNotFoundError:
                os.makedirs(self._arriving, exist_ok=True)  # noqa: PTH103 - 20,000 times
                descriptor = os.open(name, _NEW, READ_ONLY)
            try:
                written = os.write(descriptor, data)
                while written < len(data):
                    written += os.write(descriptor, memoryview(data)[written:])
            finally:
                os.close(descriptor)
            self._arrived(name, md5)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextmanager
    def arriving(self, md5: str) -> Iterator[str]:
        """A free name for a file which becomes an object when the block has ended well.

        All such names are in one folder: where a file is made, ext4 puts it, and one after the other costs half of here and there.
        """
        name = self._free(md5)
        os.makedirs(self._arriving, exist_ok=True)  # noqa: PTH103 - as above
        try:
            yield name
            self._arrived(name, md5)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _free(self, md5: str) -> str:
        return f"{self._arriving}/{md5}.{self._own}.{get_ident()}"

    def _arrived(self, name: str, md5: str) -> None:
        try:
            os.rename(name, self.name(md5))  # noqa: PTH104 - as above
        except FileNotFoundError:
            os.makedirs(f"{self._folder}/{md5[:2]}", exist_ok=True)  # noqa: PTH103 - as above
            os.rename(name, self.name(md5))  # noqa: PTH104 - as above

    def put_copy(self, md5: str, source: str) -> int:
        """Store a file, by its blocks where that can be, otherwise as a copy; its bytes."""
        descriptor = os.open(source, os.O_RDONLY)
        try:
            data = os.read(descriptor, BLOCK_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) <= BLOCK_BYTES:
            self.put_bytes(md5, data)
            return len(data)
        path = Path(source)
        self.put_file(md5, path, ("reflink", "copy"))
        return path.stat().st_size

    def put_file(self, md5: str, source: Path, kinds: Sequence[str]) -> str:
        """Store a file whose digest is known; says how: reflink, hardlink or copy."""
        path = self.path(md5)
        path.parent.mkdir(parents=True, exist_ok=True)
        return linked(source, path, kinds, READ_ONLY)

    def adopt(self, md5: str, source: Path, found: Found, kinds: Sequence[str]) -> Stamp:
        """Store a file of the project under its digest, without a copy where that can be; the file's own stamp afterwards.

        A file that is stored already becomes a link to what is there. Raises DataError when it changed after it was hashed.
        """
        if kinds[0] == "hardlink" and found.stamp.size_bytes and not (found.executable or found.is_link) and self._same_file(md5, source):
            _check_same(source, found)
            return found.stamp
        path = self.path(md5)
        _check_same(source, found)
        if not path.exists():
            self.put_file(md5, source, [kind for kind in kinds if kind != "hardlink"] or ["copy"])
            _check_same(source, found)
        return self._shared(path, source, found, links_for(kinds, found))

    def place(self, md5: str, target: Path, kinds: Sequence[str], executable: bool) -> Stamp:
        """Put an object at `target`, in the project; the stamp of the file there. Raises OSError."""
        path = self.path(md5)
        how = linked(path, target, [kind for kind in kinds if kind != "hardlink" or not executable], 0o755 if executable else 0o644)
        return stamp(path.stat() if how == "hardlink" else target.stat())

    def sound(self, md5: str, known: Stamp | None) -> Stamp | None:
        """The stamp of an object that is as its name says; hashed unless its stamp is known. None when it is damaged. Raises OSError."""
        now = stamp(os.stat(self.name(md5)))  # noqa: PTH116 - 20,000 times
        if now == known:
            return now
        [found] = digests(self.folder, [Found(f"{md5[:2]}/{md5[2:]}", now, False, False)], lambda _: None)
        return now if found == md5[:32] else None

    def _shared(self, path: Path, source: Path, found: Found, kinds: Sequence[str]) -> Stamp:
        """Let a file be a link to the object that has its content, where links are wanted."""
        kept = path.stat()
        if kept.st_ino == found.stamp.inode or (kinds[0] == "copy" and not found.is_link):
            return found.stamp
        if kept.st_size != found.stamp.size_bytes:
            raise DataError("an object is damaged", value=str(path), fix="remove it and add again")
        how = linked(path, source, kinds, 0o755 if found.executable else 0o644)
        return stamp(kept if how == "hardlink" else source.stat())

    def _same_file(self, md5: str, source: Path) -> bool:
        """Let an object be the very file, read-only from now on; false where that cannot be, or the object is there."""
        folder = f"{self.folder}/{md5[:2]}"
        try:
            os.chmod(source, READ_ONLY)  # noqa: PTH101 - 20,000 times
            os.link(source, f"{folder}/{md5[2:]}")
        except FileNotFoundError:
            Path(folder).mkdir(parents=True, exist_ok=True)
            return self._same_file(md5, source) if source.exists() else False
        except OSError:  # it is there, or this is another file system, or one without hardlinks: the caller does without
            return False
        return True


def _check_same(source: Path, found: Found) -> None:
    if stamp(source.stat()) != found.stamp:
        raise DataError("a file changed while it was added", value=found.path, fix="let its writer end first")


def links_for(kinds: Sequence[str], found: Found) -> list[str]:
    """The ways to share a file: one that is executable has a mode of its own, and empty ones would be too many names of one inode."""
    alone = found.executable or not found.stamp.size_bytes
    return [kind for kind in kinds if kind != "hardlink" or not alone] or ["copy"]
