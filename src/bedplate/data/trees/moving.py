"""Push objects to a remote, fetch them from it, and put files where `.dvc` files say.

Files go before the manifest that names them: a remote that has the manifest has the tree. What is there already is not moved again, so a
command that was killed goes on where it was.
Does not know: how a remote stores objects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.errors import BedplateError, DataError, NotFound, nearest
from bedplate.data.trees import dvc_file
from bedplate.data.trees.adding import current, files_of
from bedplate.data.trees.dvc_file import Tracked
from bedplate.data.trees.manifest import SUFFIX, from_bytes
from bedplate.data.trees.parallel import in_batches
from bedplate.data.trees.remote import FolderRemote, Remote, open_remote
from bedplate.data.trees.repository import Repository
from bedplate.data.trees.scan import Progress
from bedplate.data.trees.state import CLOCK_TICK_NS, Stamp, State, stamp

CONNECTIONS = 16


@dataclass(frozen=True)
class Moved:
    """What a push or a pull did: objects moved, of so many; and, of a pull, files that were written and removed."""

    remote: str
    objects: int
    of: int
    written: int = 0
    removed: int = 0


def push(repository: Repository, targets: Sequence[str], remote: str, progress: Progress) -> Moved:
    """Copy to the remote what it lacks. Raises NotFound for what neither cache nor remote has, and DataError for a damaged object."""
    name, values = repository.remote(remote)
    there = open_remote(repository.root, name, values)
    tracked = read(repository, targets)
    files, manifests = _objects(repository, tracked)
    cache = repository.cache
    missing = {*files, *manifests} - there.present({*files, *manifests})
    absent = missing - cache.present(missing)
    if absent:
        raise NotFound(f"{len(absent)} objects are in neither the cache nor the remote", value=min(absent), fix="add their files again")

    def put(md5: str) -> int:
        return there.put(md5, cache.name(md5))

    with closing(State(repository.notes)) as state:
        for group in (sorted(missing & files), sorted(missing & manifests)):
            _check_sound(repository, state, group)
            _each(put, group, there, _mean_bytes(tracked), progress)
    return Moved(name, len(missing), len(files) + len(manifests))


def fetch(repository: Repository, targets: Sequence[str], remote: str, progress: Progress) -> Moved:
    """Bring into the cache what it lacks. Raises NotFound for what the remote has not, and DataError for a damaged object."""
    tracked = read(repository, targets)
    cache = repository.cache
    manifests = {each.md5 for each in tracked.values() if each.is_tree}
    lacking = manifests - cache.present(manifests)
    name = remote
    if lacking:
        name, values = repository.remote(remote)
        there = open_remote(repository.root, name, values)
        _each(lambda md5: there.fetch(md5, cache), sorted(lacking), there, 0, progress)
    files, _ = _objects(repository, tracked)
    with closing(State(repository.notes)) as state:
        missing = sorted(files - _sound(repository, state, cache.present(files)))
        if missing:
            name, values = repository.remote(remote)
            there = open_remote(repository.root, name, values)
            _each(lambda md5: there.fetch(md5, cache), missing, there, _mean_bytes(tracked), progress)
            state.note({}, {md5: stamp(cache.path(md5).stat()) for md5 in missing}, time.time_ns() + CLOCK_TICK_NS)
    return Moved(name, len(lacking) + len(missing), len(manifests | files))


def check_out(repository: Repository, targets: Sequence[str], force: bool, progress: Progress) -> tuple[int, int]:
    """Let the project have the files that `.dvc` files name, from the cache; how many were written, and how many removed.

    Raises BedplateError, before anything is touched, where a file would be lost that the cache does not have, unless `force`.
    """
    written = removed = 0
    with closing(State(repository.notes)) as state:
        for target, tracked in read(repository, targets).items():
            wanted = files_of(repository, target, tracked)
            now = current(repository, state, target, progress)
            extra = [path for path in now if path not in wanted]
            todo = [path for path in wanted if now.get(path) != wanted[path]]
            at_stake = {now[path] for path in (*extra, *todo) if path in now}
            lost = at_stake - repository.cache.present(at_stake)
            if lost and not force:
                first = min(path for path, md5 in now.items() if md5 in lost)
                raise BedplateError("a file would be lost: the cache does not have it", value=first, fix="bedplate data add it, or --force")
            for path in extra:
                (repository.root / path).unlink()
            stamps = _place(repository, repository.root, {path: wanted[path] for path in todo}, tracked, repository.links)
            state.note({path: (each, wanted[path]) for path, each in stamps.items()}, {}, time.time_ns() + CLOCK_TICK_NS)
            if tracked.is_tree:
                (repository.root / target).mkdir(parents=True, exist_ok=True)
            written, removed = written + len(todo), removed + len(extra)
    return written, removed


def copy_out(repository: Repository, target: str, folder: Path) -> int:
    """Write a tracked file or tree, from the cache, as `folder`, which must not be there yet; how many files. They may be changed."""
    if folder.exists():
        raise BedplateError("the place is taken", value=str(folder), fix="name a path that is not there")
    tracked = read(repository, [target])[target]
    files = {path[len(target) :].lstrip("/"): md5 for path, md5 in files_of(repository, target, tracked).items()}
    if not tracked.is_tree:
        files = {folder.name: tracked.md5}
    _place(repository, folder if tracked.is_tree else folder.parent, files, tracked, ["reflink", "copy"])
    return len(files)


def read(repository: Repository, targets: Sequence[str]) -> dict[str, Tracked]:
    """What the `.dvc` files of the named paths say, or of all. Raises NotFound for a path that is not tracked."""
    known = list(repository.tracked()) if not targets else []
    for target in targets:
        if not repository.dvc_file(target).exists():
            raise NotFound("the path is not tracked", value=target, fix=nearest(target, list(repository.tracked())))
    return {target: dvc_file.read(repository.dvc_file(target)) for target in targets or known}


def _objects(repository: Repository, tracked: Mapping[str, Tracked]) -> tuple[set[str], set[str]]:
    """The objects of files, and those of manifests. Raises NotFound for a manifest that the cache does not have."""
    files: set[str] = set()
    for target, each in tracked.items():
        try:
            files |= set(files_of(repository, target, each).values())
        except FileNotFoundError as error:
            raise NotFound("the cache does not have the list of a tree's files", value=target, fix="bedplate data pull") from error
    return files, {each.md5 for each in tracked.values() if each.is_tree}


def _sound(repository: Repository, state: State, wanted: Iterable[str]) -> set[str]:
    """Those objects of the cache that are as their names say; damaged ones are taken away."""
    began_ns, names = time.time_ns(), sorted(wanted)
    known = state.kept(names)
    found: dict[str, Stamp | None] = {}

    def check(batch: slice) -> None:
        for md5 in names[batch]:
            found[md5] = repository.cache.sound(md5, known.get(md5))

    in_batches(check, [repository.cache.path(md5).stat().st_size if md5 not in known else 0 for md5 in names])
    for md5, each in found.items():
        if each is None:
            repository.cache.path(md5).unlink()
    good = {md5: each for md5, each in found.items() if each is not None}
    state.note({}, {md5: each for md5, each in good.items() if known.get(md5) != each}, began_ns)
    return set(good)


def _check_sound(repository: Repository, state: State, names: Sequence[str]) -> None:
    damaged = set(names) - _sound(repository, state, (name for name in names if not name.endswith(SUFFIX)))
    for md5 in sorted(damaged):
        if not md5.endswith(SUFFIX):
            raise DataError("an object of the cache is damaged; it was taken away", value=md5, fix="add its file again, or pull it")
        from_bytes(repository.cache.path(md5).read_bytes(), md5)


def _mean_bytes(tracked: Mapping[str, Tracked]) -> int:
    return sum(each.size_bytes for each in tracked.values()) // max(1, sum(each.nfiles or 1 for each in tracked.values()))


def _each(move: Callable[[str], int], names: Sequence[str], remote: Remote, mean_bytes: int, progress: Progress) -> None:
    """Move objects: to a folder in batches, to a server over many connections. The first failure ends it; what has arrived stays."""
    if isinstance(remote, FolderRemote):

        def batch(part: slice) -> None:
            for md5 in names[part]:
                progress(move(md5))

        in_batches(batch, [mean_bytes] * len(names))
        return
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        waiting = [pool.submit(move, md5) for md5 in names]
        try:
            for each in waiting:
                progress(each.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _place(repository: Repository, root: Path, files: Mapping[str, str], tracked: Tracked, kinds: Sequence[str]) -> dict[str, Stamp]:
    """Put objects at their paths below `root`. Raises DataError where a link leads outside, NotFound for one that is not there."""
    absent = set(files.values()) - repository.cache.present(set(files.values()))
    if absent:
        raise NotFound(f"the cache lacks {len(absent)} objects", value=min(absent), fix="bedplate data pull")
    names = sorted(files)
    for folder in {(root / path).parent for path in names}:
        if not folder.resolve().is_relative_to(root.resolve()):
            raise DataError("a folder of the tree is a link that leads outside", value=str(folder), fix="remove the link")
        folder.mkdir(parents=True, exist_ok=True)
    stamps: dict[str, Stamp] = {}

    def place(batch: slice) -> None:
        for path in names[batch]:
            kind = [each for each in kinds if each != "hardlink" or repository.cache.path(files[path]).stat().st_size]
            stamps[path] = repository.cache.place(files[path], root / path, kind, tracked.executable)

    in_batches(place, [_mean_bytes({"": tracked})] * len(names))
    return stamps
