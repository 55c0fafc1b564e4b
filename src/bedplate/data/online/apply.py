"""Events into the store: all at once into one that nobody reads yet, or more of them into one that is read meanwhile, each exactly once.

How far each partition is applied stands in one row, the guard, which is compared and replaced in the very transaction that writes the
entities: an event that was applied before is passed over, and a process killed at any instant leaves all of a batch or none of it.
Does not know: where events come from, or which database it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from bedplate.core.digest import canonical
from bedplate.core.errors import Busy
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, Ints, column, encode, microseconds, texts
from bedplate.data.online.contents import Contents, KeptDataset, decode_row, encode_row, kept_columns
from bedplate.data.online.definition import NEVER_US, NUMBER, ViewDefinition
from bedplate.data.online.events import Events, events_of
from bedplate.data.online.keys import Keys
from bedplate.data.online.protocol import OnlineEngine
from bedplate.data.online.rows import Packed, decode_head, merged, touched_tiles

BATCH_ROWS = 5_000
_CONFLICTS = 100
_ARRIVED = "_arrived_at"


@dataclass(frozen=True)
class Applied:
    """How far a dataset is applied: the next offset of each partition, how many rows, and the latest known-at and arrival among them."""

    offsets: Mapping[int, int] = field(default_factory=dict)
    rows: int = 0
    newest_us: int = NEVER_US
    arrived_us: int = NEVER_US

    def encode(self) -> bytes:
        """The guard's row."""
        offsets = {str(partition): offset for partition, offset in self.offsets.items()}
        return canonical({"offsets": offsets, "rows": self.rows, "newest_us": self.newest_us, "arrived_us": self.arrived_us})

    @staticmethod
    def decode(body: bytes | None) -> Applied:
        """The guard's row, read; nothing applied where there is none."""
        if body is None:
            return Applied()
        values = json.loads(body)
        offsets = {int(partition): offset for partition, offset in values["offsets"].items()}
        return Applied(offsets, values["rows"], values["newest_us"], values["arrived_us"])

    def after(self, table: pa.Table, owner: str) -> Applied:
        """With the rows of a table, of which none is applied yet."""
        partition, offset = _places(table)
        ends = dict(self.offsets)
        for number in np.unique(partition).tolist():
            ends[number] = max(ends.get(number, 0), int(offset[partition == number].max()) + 1)
        newest_us, arrived_us = (_latest(table, name, owner) for name in (KNOWN_AT, _ARRIVED))
        return Applied(ends, self.rows + table.num_rows, max(self.newest_us, newest_us), max(self.arrived_us, arrived_us))

    def news(self, table: pa.Table) -> pa.Table:
        """The rows of a table that are not applied yet."""
        partition, offset = _places(table)
        new = np.zeros(table.num_rows, bool)
        for number in np.unique(partition).tolist():
            new |= (partition == number) & (offset >= self.offsets.get(number, 0))
        return table if new.all() else table.filter(pa.array(new))


Load = Callable[[Iterable[tuple[bytes, bytes]]], None]


def fill(
    load: Load, keys: Keys, contents: Contents, tables: Mapping[str, pa.Table], progress: Callable[[int, int], None], now_us: int
) -> None:
    """Write all rows into a store that is empty and that nobody reads; the meta row comes last. `now_us` as for `apply`."""
    total, done = len(tables) + len(contents.views), 0
    for name, table in tables.items():
        progress(done, total)
        applied = Applied().after(table, name)
        if contents.datasets[name].key:
            load(_new_rows(keys, contents.datasets[name], table))
        for view in contents.views_of(name):
            done += 1
            progress(done, total)
            load(_new_entities(keys, view, events_of(view, contents.datasets[name].dataset, table), min(applied.newest_us, now_us)))
        load([(keys.guard(name), applied.encode())])
        done += 1
    load([(keys.meta, contents.encode())])
    progress(total, total)


def apply(engine: OnlineEngine, keys: Keys, contents: Contents, name: str, table: pa.Table, now_us: int) -> int:
    """Apply the rows of a cut of dataset `name` that are not applied yet, and return how many there were.

    Rows of a partition must come in order of offset: one below what was applied counts as applied. `now_us` bounds what a row that claims
    to be of the future can make the store forget. Raises Busy when other writers came first every time.
    """
    count = 0
    for batch in _batches(table):
        for _ in range(_CONFLICTS):
            guard = engine.get([keys.guard(name)])[0]
            before = Applied.decode(guard)
            rows = before.news(batch)
            if not rows.num_rows:
                break
            after = before.after(rows, name)
            puts, drops = _changes(engine, keys, contents, name, rows, min(after.newest_us, now_us))
            puts[keys.guard(name)] = after.encode()
            if engine.commit(keys.guard(name), guard, puts, drops):
                count += rows.num_rows
                break
        else:
            raise Busy("other writers of the online store came first every time", value=name, fix="let one process follow a store")
    return count


def expire(engine: OnlineEngine, keys: Keys, contents: Contents, now_us: int) -> int:
    """Drop the entities that nothing was heard of for longer than their view keeps events; returns how many."""
    dropped = 0
    for view in contents.views.values():
        if view.kept_us is None or view.kind != "windowed":
            continue
        for page in engine.scan(keys.heads(view.name)):
            dropped += _expire_page(engine, keys, view, page, now_us)
    return dropped


def _expire_page(engine: OnlineEngine, keys: Keys, view: ViewDefinition, page: Sequence[bytes], now_us: int) -> int:
    guard_key = keys.guard(view.dataset)
    guard, *heads = engine.get([guard_key, *page])
    assert view.kept_us is not None
    horizon_us = min(Applied.decode(guard).newest_us, now_us) - view.kept_us
    drops: list[bytes] = []
    count = 0
    for key, body in zip(page, heads, strict=True):
        head = decode_head(body) if body is not None else None
        if head is None or head.newest_us >= horizon_us:
            continue
        numbers = [] if head.inline else head.block.matrix[NUMBER].tolist()
        drops += [key, *(keys.tile(view.name, keys.entity(view.name, key), number) for number in numbers)]
        count += 1
    return count if drops and engine.commit(guard_key, guard, {}, drops) else 0


def _changes(
    engine: OnlineEngine, keys: Keys, contents: Contents, name: str, rows: pa.Table, newest_us: int
) -> tuple[dict[bytes, bytes], list[bytes]]:
    """What is to be written and dropped when `rows` are added to what the store holds now."""
    kept = contents.datasets[name]
    puts: dict[bytes, bytes] = {}
    drops: list[bytes] = []
    if kept.key:
        fresh = dict(_new_rows(keys, kept, rows))
        for key, body, old in zip(fresh, fresh.values(), _read(engine, list(fresh)), strict=True):
            puts[key] = body if old is None else _merged_row(old, body)
    for view in contents.views_of(name):
        horizon_us = None if view.kept_us is None else newest_us - view.kept_us
        for entity, packed in _merged_entities(engine, keys, view, events_of(view, kept.dataset, rows), horizon_us):
            _collect(keys, view, entity, packed, puts, drops)
    return puts, drops


def _merged_entities(
    engine: OnlineEngine, keys: Keys, view: ViewDefinition, events: Events, horizon_us: int | None
) -> Iterator[tuple[str, Packed]]:
    heads = _read(engine, [keys.head(view.name, entity) for entity in events.entities])
    numbers = [touched_tiles(view, head, events.of(place)) for place, head in enumerate(heads)]
    wanted = [(entity, number) for entity, its in zip(events.entities, numbers, strict=True) for number in its]
    bodies = _read(engine, [keys.tile(view.name, entity, number) for entity, number in wanted])
    tiles: dict[str, dict[int, bytes]] = {}
    for (entity, number), body in zip(wanted, bodies, strict=True):
        if body is not None:
            tiles.setdefault(entity, {})[number] = body
    for place, entity in enumerate(events.entities):
        yield entity, merged(view, heads[place], tiles.get(entity, {}), events.of(place), horizon_us)


def _collect(keys: Keys, view: ViewDefinition, entity: str, packed: Packed, puts: dict[bytes, bytes], drops: list[bytes]) -> None:
    if packed.head is None:
        drops.append(keys.head(view.name, entity))
    else:
        puts[keys.head(view.name, entity)] = packed.head
    puts.update((keys.tile(view.name, entity, number), body) for number, body in packed.tiles.items())
    drops += [keys.tile(view.name, entity, number) for number in packed.gone]


def _new_entities(keys: Keys, view: ViewDefinition, events: Events, newest_us: int) -> Iterator[tuple[bytes, bytes]]:
    horizon_us = None if view.kept_us is None else newest_us - view.kept_us
    for place, entity in enumerate(events.entities):
        puts: dict[bytes, bytes] = {}
        _collect(keys, view, entity, merged(view, None, {}, events.of(place), horizon_us), puts, [])
        yield from puts.items()


def _new_rows(keys: Keys, kept: KeptDataset, table: pa.Table) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a table by key: of those with one key, the latest known, and the identities of all."""
    codes, distinct = encode(table, [name for name, _ in kept.key], kept.name)
    known, is_known = microseconds(column(table, KNOWN_AT, kept.name), f"{kept.name}.{KNOWN_AT}")
    known = np.where(is_known, known, NEVER_US)
    partition, offset = _places(table)
    rows = np.flatnonzero(codes >= 0)
    rows = rows[np.lexsort((offset[rows], partition[rows], known[rows], codes[rows]))]
    group = codes[rows]
    last = np.append(np.diff(group) != 0, True) if len(rows) else np.zeros(0, bool)
    columns = pa.table({name: column(table, name, kept.name) for name in kept_columns(table)})
    bodies: list[Any] = texts(columns.take(pa.array(rows[last], pa.int64()))).to_pylist()
    names: list[Any] = texts(distinct).to_pylist()
    identities = list(zip(known[rows].tolist(), partition[rows].tolist(), offset[rows].tolist(), strict=True))
    start = 0
    for body, end in zip(bodies, (np.flatnonzero(last) + 1).tolist(), strict=True):
        yield keys.row(kept.name, names[int(group[start])]), encode_row(identities[start:end], body)
        start = end


def _merged_row(old: bytes, new: bytes) -> bytes:
    """Both rows of a key: the later known of the two bodies."""
    (old_identities, old_body), (new_identities, new_body) = decode_row(old), decode_row(new)
    later = max(new_identities) > max(old_identities)
    return encode_row([*old_identities, *new_identities], new_body if later else old_body)


def _read(engine: OnlineEngine, wanted: Sequence[bytes]) -> list[bytes | None]:
    """Many rows, in several reads: that they are of one moment, the guard makes sure."""
    found: list[bytes | None] = []
    for first in range(0, len(wanted), BATCH_ROWS):
        found += engine.get(wanted[first : first + BATCH_ROWS])
    return found


def _batches(table: pa.Table) -> Iterator[pa.Table]:
    """A table in order of partition and offset, in pieces."""
    partition, offset = _places(table)
    order = np.lexsort((offset, partition))
    for first in range(0, len(order), BATCH_ROWS):
        yield table.take(pa.array(order[first : first + BATCH_ROWS], pa.int64()))


def _places(table: pa.Table) -> tuple[Ints, Ints]:
    partition, offset = (table.column(name).to_numpy().astype(np.int64) for name in (PARTITION, OFFSET))
    return partition, offset


def _latest(table: pa.Table, name: str, owner: str) -> int:
    if name not in table.column_names:
        return NEVER_US
    values, there = microseconds(column(table, name, owner), f"{owner}.{name}")
    return int(values[there].max()) if there.any() else NEVER_US
