"""One file at another place: sharing its blocks (reflink), being the same file (hardlink), or as a copy. Never half there.

Does not know: what the file holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

FICLONE = 0x40049409  # linux/fs.h
KINDS = ("reflink", "hardlink", "copy")
READ_ONLY = 0o444


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A free name next to `target`, which takes its place when the block has ended well."""
    name = target.with_name(f".{target.name[:32]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        yield name
        os.replace(name, target)  # noqa: PTH105 - 20,000 times
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def linked(source: Path, target: Path, kinds: Sequence[str], mode: int) -> str:
    """Put `source` at `target` by the first of `kinds` that works, and say which; `mode` is for a file of its own. Raises OSError."""
    with beside(target) as name:
        for kind in kinds:
            if kind == "reflink" and _reflinked(source, name, mode):
                return kind
            if kind == "hardlink" and _hardlinked(source, name):
                return kind
        shutil.copyfile(source, name)
        name.chmod(mode)
        return "copy"


def shares_blocks(folder: Path) -> bool:
    """Whether the file system of a folder, which is made, has reflinks: tried with a file of one block."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".probe", dir=folder) as scratch:
        source = Path(scratch, "source")
        source.write_bytes(b"\0" * 4096)
        return _reflinked(source, Path(scratch, "clone"), READ_ONLY)


def _hardlinked(source: Path, name: Path) -> bool:
    try:
        os.link(source, name)
    except OSError:  # another file system, or one without hardlinks, or too many: the caller goes on with the next kind
        return False
    return True


def _reflinked(source: Path, name: Path, mode: int) -> bool:
    with source.open("rb") as shared, name.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, shared.fileno())
        except OSError:  # a file system that shares no blocks: the caller goes on with the next kind
            cloned = False
        else:
            os.fchmod(new.fileno(), mode)
            cloned = True
    if not cloned:
        name.unlink()
    return cloned
