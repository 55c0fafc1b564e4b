"""Add a file or folder to the cache, and say what differs from what was added.

Objects come first, then the manifest, then the `.dvc` file, each whole or not at all: a kill leaves objects that nobody names, and the
same command finds them when it is called again.
Does not know: remotes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from bedplate.core.errors import DataError
from bedplate.data.trees import dvc_file
from bedplate.data.trees.dvc_file import Tracked
from bedplate.data.trees.manifest import from_bytes, name_of, to_bytes
from bedplate.data.trees.parallel import in_batches
from bedplate.data.trees.repository import Repository
from bedplate.data.trees.scan import Found, Progress, digests, scan
from bedplate.data.trees.state import Stamp, State


@dataclass(frozen=True)
class Added:
    """What `add` did. `hashed` files were read; `lost` objects were overwritten in place and are no longer in the cache."""

    path: str
    tracked: Tracked
    changed: bool
    hashed: int
    stored: int
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """How a path differs from its `.dvc` file. `missing` counts objects that the cache does not have."""

    path: str
    state: str
    added: list[str] = field(default_factory=list)
    modified: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    missing: int = 0


def add(repository: Repository, target: str, progress: Progress) -> Added:
    """Store a path, and write its `.dvc` file. Raises NotFound, and DataError for what cannot be stored or changes meanwhile."""
    _check_apart(repository, target)
    began_ns = time.time_ns()
    with closing(State(repository.notes)) as state:
        found = scan(repository.root, target)
        before = state.seen(target)
        md5s, fresh = _digests(repository, found, before, progress)
        lost = _lost(repository, found, md5s, before)
        stamps, stored = _adopted(repository, found, md5s, fresh)
        paths = [each.path for each in found]
        if stored or fresh:
            seen = dict(zip(paths, zip(stamps, md5s, strict=True), strict=True))
            state.note(seen, _kept(repository, found, md5s, stamps), began_ns)
    size = sum(each.stamp.size_bytes for each in found)
    name = target.rpartition("/")[2]
    if (repository.root / target).is_dir():
        manifest = to_bytes({each.path[len(target) + 1 :]: md5 for each, md5 in zip(found, md5s, strict=True)})
        tracked = Tracked(name, name_of(manifest), size, len(found))
        if not repository.cache.path(tracked.md5).exists():
            repository.cache.put_bytes(tracked.md5, manifest)
    else:
        tracked = Tracked(name, md5s[0], size, None, found[0].executable)
    repository.ignore_in_git(target)
    changed = dvc_file.write(repository.dvc_file(target), tracked)
    return Added(target, tracked, changed, len(fresh), stored, lost)


def status(repository: Repository, targets: Sequence[str], progress: Progress) -> list[Difference]:
    """How the tracked paths, or those named, differ from what their `.dvc` files say; only files that changed are read."""
    with closing(State(repository.notes)) as state:
        return [_difference(repository, state, target, progress) for target in targets or list(repository.tracked())]


def files_of(repository: Repository, target: str, tracked: Tracked) -> dict[str, str]:
    """Path from the root to MD5 of the files of a tracked path. Raises FileNotFoundError when the cache has no manifest of it."""
    if not tracked.is_tree:
        return {target: tracked.md5}
    listed = from_bytes(repository.cache.path(tracked.md5).read_bytes(), tracked.md5)
    return {f"{target}/{path}": md5 for path, md5 in listed.items()}


def current(repository: Repository, state: State, target: str, progress: Progress) -> dict[str, str]:
    """The MD5s of the files of a path as they are now, by path from the root."""
    if not (repository.root / target).exists():
        return {}
    began_ns = time.time_ns()
    found = scan(repository.root, target)
    before = state.seen(target)
    md5s, fresh = _digests(repository, found, before, progress)
    state.note({found[number].path: (found[number].stamp, md5s[number]) for number in fresh}, {}, began_ns)
    return {each.path: md5 for each, md5 in zip(found, md5s, strict=True)}


def _difference(repository: Repository, state: State, target: str, progress: Progress) -> Difference:
    tracked = dvc_file.read(repository.dvc_file(target))
    now = current(repository, state, target, progress)
    if not repository.cache.path(tracked.md5).exists():
        same = now and _object_of(repository, target, now) == tracked.md5
        return Difference(target, "not in cache" if same else "missing" if not now else "changed", missing=1)
    wanted = files_of(repository, target, tracked)
    missing = len(set(wanted.values()) - repository.cache.present(set(wanted.values())))
    if not now and not (repository.root / target).exists():
        return Difference(target, "missing", missing=missing)
    added = sorted(now.keys() - wanted.keys())
    deleted = sorted(wanted.keys() - now.keys())
    modified = sorted(path for path in now.keys() & wanted.keys() if now[path] != wanted[path])
    changed = added or deleted or modified
    return Difference(target, "changed" if changed else "not in cache" if missing else "unchanged", added, modified, deleted, missing)


def _object_of(repository: Repository, target: str, files: Mapping[str, str]) -> str:
    if (repository.root / target).is_dir():
        return name_of(to_bytes({path[len(target) + 1 :]: md5 for path, md5 in files.items()}))
    return files[target]


def _digests(
    repository: Repository, found: Sequence[Found], before: Mapping[str, tuple[Stamp, str]], progress: Progress
) -> tuple[list[str], list[int]]:
    """The MD5s of files, those known by their stamps not read; and the numbers of those that were."""
    known = [before.get(each.path) for each in found]
    fresh = [number for number, (each, was) in enumerate(zip(found, known, strict=True)) if was is None or was[0] != each.stamp]
    read = dict(zip(fresh, digests(repository.root, [found[number] for number in fresh], progress), strict=True))
    return [read[number] if number in read else str(was and was[1]) for number, was in enumerate(known)], fresh


def _lost(repository: Repository, found: Sequence[Found], md5s: Sequence[str], before: Mapping[str, tuple[Stamp, str]]) -> tuple[str, ...]:
    """Take away objects that are the very files they were stored from, written to in spite of their mode: they are not what they were."""
    lost = []
    for each, md5 in zip(found, md5s, strict=True):
        was = before.get(each.path)
        if was is None or was[1] == md5:
            continue
        path = repository.cache.path(was[1])
        if path.exists() and path.stat().st_ino == each.stamp.inode:
            path.unlink()
            lost.append(was[1])
    return tuple(lost)


def _adopted(repository: Repository, found: Sequence[Found], md5s: Sequence[str], fresh: Sequence[int]) -> tuple[list[Stamp], int]:
    """Let the cache have every file that it has not, and every file that was read; the stamps afterwards, and how many were not there."""
    cache, kinds, root = repository.cache, repository.links, repository.root
    there = cache.present(set(md5s))
    todo = sorted({*fresh, *(number for number, md5 in enumerate(md5s) if md5 not in there)})
    stamps = [each.stamp for each in found]

    def adopt(batch: slice) -> None:
        for number in todo[batch]:
            each = found[number]
            stamps[number] = cache.adopt(md5s[number], root / each.path, each, kinds)

    in_batches(adopt, [found[number].stamp.size_bytes for number in todo])
    return stamps, len(set(md5s) - there)


def _kept(repository: Repository, found: Sequence[Found], md5s: Sequence[str], stamps: Sequence[Stamp]) -> dict[str, Stamp]:
    """The stamps of objects that are the very files they were stored from; a copy is hashed before it is first pushed."""
    if repository.links[0] == "copy":
        return {}
    cache = repository.cache
    return {md5: each for md5, each, was in zip(md5s, stamps, found, strict=True) if not was.executable and cache.is_at(md5, each)}


def _check_apart(repository: Repository, target: str) -> None:
    """Raises DataError for a path inside a tracked one, or around one: its files would have two owners."""
    for other in repository.tracked():
        if target.startswith(f"{other}/") or other.startswith(f"{target}/"):
            raise DataError("a tracked path lies inside another", value=target, fix=f"bedplate data add {other}, or remove {other}.dvc")
