"""A store made anew from cuts of its datasets: as a file that is written beside and renamed, or below a name of its own in a database.

Does not know: what is done with it, or how events are packed (`apply`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import blake3
import pyarrow as pa

from bedplate.core.atomic import sync
from bedplate.core.spec import Dataset, Feature
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.apply import fill
from bedplate.data.online.contents import described
from bedplate.data.online.keys import Keys
from bedplate.data.online.protocol import OnlineEngine

Progress = Callable[[int, int], None]
Tables = Mapping[str, tuple[Dataset, pa.Table]]


def build(path: Path, features: Mapping[str, Feature], tables: Tables, progress: Progress, now_us: int) -> str:
    """Write the store of `features`, and of those of `tables` that have a key, to the file `path`. Returns the digest of its bytes.

    `now_us` bounds what a row that claims to be of the future can make the store forget. Raises DataError when the dataset of a feature is
    not among `tables`, or lacks what the feature needs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    try:
        made = _filled(beside, features, tables, progress, now_us)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return made


def build_below(
    engine: OnlineEngine, namespace: str, features: Mapping[str, Feature], tables: Tables, progress: Progress, now_us: int
) -> str:
    """The same below a name in a database; the name must be a new one. Returns the digest of the rows' bytes."""
    hasher = blake3.blake3()

    def load(rows: Iterable[tuple[bytes, bytes]]) -> None:
        engine.load(_hashed(rows, hasher))

    fill(load, Keys(namespace), described(features, tables), {name: table for name, (_, table) in tables.items()}, progress, now_us)
    return str(hasher.hexdigest())


def drop(engine: OnlineEngine, namespace: str) -> int:
    """Remove the store of that name, its meta row first; returns how many rows there were."""
    keys = Keys(namespace)
    count = 0
    engine.commit(keys.meta, engine.get([keys.meta])[0], {}, [keys.meta])
    for page in engine.scan(namespace.encode()):
        engine.commit(keys.meta, None, {}, page)
        count += len(page)
    return count


def _filled(beside: Path, features: Mapping[str, Feature], tables: Tables, progress: Progress, now_us: int) -> str:
    engine = SqliteEngine.create(beside)
    try:
        engine.write_once()
        return build_below(engine, "", features, tables, progress, now_us)
    finally:
        engine.close()


def _hashed(rows: Iterable[tuple[bytes, bytes]], hasher: Any) -> Iterator[tuple[bytes, bytes]]:
    for key, body in rows:
        hasher.update(len(key).to_bytes(4, "little") + key + len(body).to_bytes(4, "little") + body)
        yield key, body
