"""Derived records: what a shard's bytes are, the manifest that lists shards, and reading records out of mapped ones.

A shard is `rows` records of one numpy dtype, little-endian and packed, followed by what does not have a fixed width: a record with the
fields `at` and `bytes` has its own bytes there, from the start of the file on. A shard's name is the BLAKE3 digest of its bytes.
`manifest.json` has the kind, the dtype, the shards of each split and the facts of the kind (sequence length, classes…).
Does not know: what records mean (`tokens`, `images`), the order in which they are read, or object stores.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import blake3
import numpy as np
import numpy.typing as npt

from bedplate.core.errors import DataError, nearest

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """One file of records: its digest (BLAKE3, 64 hexadecimal digits), how many records it has and how many bytes."""

    digest: str
    rows: int
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name, in a folder or a bucket."""
        return f"{self.digest}.shard"


@dataclass(frozen=True)
class Manifest:
    """What was derived. `dtype` is the record's, as `numpy.dtype(...)` takes it; `facts` belong to the kind.

    `store` is the URL or folder where the shards lie, None for beside the manifest; `window` is how many shards are shuffled together
    (None: all); `label` names what is foretold, "" for nothing.
    """

    kind: str
    dtype: Sequence[Sequence[Any]]
    splits: Mapping[str, Sequence[Shard]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    store: str | None = None
    window: int | None = None

    @property
    def record(self) -> np.dtype[Any]:
        """The dtype of a record."""
        return np.dtype([(each[0], each[1], tuple(each[2])) if len(each) > 2 else (each[0], each[1]) for each in self.dtype])

    def shards(self, split: str) -> Sequence[Shard]:
        """The shards of a split. Raises DataError for a split that is not there."""
        if split not in self.splits:
            raise DataError("no such split", value=split, fix=nearest(split, self.splits))
        return self.splits[split]

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`."""
        rest = {name: value for name, value in values.items() if name not in ("format", "splits")}
        return Manifest(splits={name: tuple(Shard(**shard) for shard in shards) for name, shards in values["splits"].items()}, **rest)


class OpenShard:
    """A shard in memory or mapped: `records` structured [rows], `raw` uint8 [bytes]. Valid until `close`, arrays taken from it longer."""

    def __init__(self, record: np.dtype[Any], shard: Shard, buffer: Any, descriptor: int | None = None) -> None:
        """`buffer` holds the file's bytes; `descriptor` is closed with the shard (the pin of a cached file hangs on it)."""
        self.raw: npt.NDArray[np.uint8] = np.frombuffer(buffer, np.uint8)
        self.records: npt.NDArray[Any] = np.frombuffer(buffer, record, shard.rows)
        self._descriptor = descriptor

    def own_bytes(self, row: int) -> bytes:
        """The bytes of variable width that belong to a record."""
        at, count = int(self.records["at"][row]), int(self.records["bytes"][row])
        return self.raw[at : at + count].tobytes()

    def close(self) -> None:
        """Give the pin back. A mapping stays valid as long as an array points into it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Shards(Protocol):
    """Where shards are opened from."""

    def open(self, shard: Shard) -> OpenShard:
        """The shard; waits until it is here. The caller does not close it. Raises DataError for one that is missing or damaged."""

    def upcoming(self, shards: Sequence[Shard]) -> None:
        """Say which shards are read next, in this order, so that they can be fetched ahead."""

    def counters(self) -> dict[str, float]:
        """Counts since the start: `bytes_read`, `read_s`, `cache_hits`, `cache_misses`."""

    def close(self) -> None:
        """End what runs in the background and let go of files."""


class MappedShards:
    """Shards of a folder, memory-mapped when they are first used and verified then. The kernel's page cache does the rest."""

    def __init__(self, folder: Path, record: np.dtype[Any]) -> None:
        """Nothing is opened yet."""
        self._folder = folder
        self._record = record
        self._open: dict[str, OpenShard] = {}

    def open(self, shard: Shard) -> OpenShard:
        """The shard, mapped. Raises DataError when it is missing or damaged."""
        found = self._open.get(shard.digest)
        if found is None:
            path = self._folder / shard.name
            fix = "run the training-set step again with --force"
            if not path.is_file():
                raise DataError("a shard of a training set is missing", value=str(path), fix=fix)
            buffer = mapped(path)
            if blake3.blake3(buffer).hexdigest() != shard.digest:
                raise DataError("a shard of a training set is damaged", value=str(path), fix=fix)
            found = self._open[shard.digest] = OpenShard(self._record, shard, buffer)
        return found

    def upcoming(self, shards: Sequence[Shard]) -> None:
        """Nothing to do: the kernel reads ahead."""

    def counters(self) -> dict[str, float]:
        """The bytes that are mapped and verified; what the kernel reads is not seen from here."""
        return {"bytes_read": float(sum(shard.raw.nbytes for shard in self._open.values())), "read_s": 0.0}

    def close(self) -> None:
        """Let go of all mappings."""
        self._open.clear()


def mapped(path: Path) -> Any:
    """A file's bytes, mapped read-only; empty bytes for an empty file, which cannot be mapped."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""


class Records:
    """The records of one split, numbered shard after shard."""

    def __init__(self, shards: Sequence[Shard], source: Shards) -> None:
        """`source` opens shards when their records are asked for."""
        self.shards = tuple(shards)
        self.rows = tuple(shard.rows for shard in shards)
        self._source = source
        self._ends = np.cumsum(np.array(self.rows, np.int64))
        self._starts = np.concatenate([[0], self._ends])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def located(self, records: npt.NDArray[np.int64]) -> list[tuple[OpenShard, int]]:
        """The open shard of each record, and its row there. Waits for shards that are not here yet."""
        numbers = np.searchsorted(self._ends, records, side="right")
        rows = (records - self._starts[numbers]).tolist()
        opened: dict[int, OpenShard] = {}
        found = []
        for number, row in zip(numbers.tolist(), rows, strict=True):
            shard = opened.get(number)
            if shard is None:
                shard = opened[number] = self._source.open(self.shards[number])
            found.append((shard, row))
        return found

    def grouped(self, records: npt.NDArray[np.int64]) -> Iterator[tuple[OpenShard, npt.NDArray[np.int64], npt.NDArray[np.intp]]]:
        """Each shard that is needed, once, with the rows that are wanted of it and where they stand in `records`."""
        numbers = np.searchsorted(self._ends, records, side="right")
        places = np.argsort(numbers, kind="stable")
        found, first = np.unique(numbers[places], return_index=True)
        for number, mine in zip(found.tolist(), np.split(places, first[1:]), strict=True):
            yield self._source.open(self.shards[number]), records[mine] - self._starts[number], mine

    def upcoming(self, numbers: Sequence[int]) -> None:
        """Say which shards are read next."""
        self._source.upcoming([self.shards[number] for number in numbers])
