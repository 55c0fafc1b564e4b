"""Which bytes of which tensors a rank has, who writes them, and where they lie in a file. Pure arithmetic over boxes.

A tensor of the whole model is cut into boxes; ranks may hold equal boxes (copies), of which one rank writes one. A part file has the
safetensors format (https://huggingface.co/docs/safetensors), so that anybody can read it.
Does not know: devices, process groups, or files (`parts`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.core.errors import CheckpointError

HEADER_ALIGNMENT = 64  # bytes: the data of a file begins where any type may
DTYPES: Mapping[str, tuple[str, int]] = {  # torch's name of a type -> that of safetensors, and bytes of an element
    "float64": ("F64", 8),
    "int64": ("I64", 8),
    "uint64": ("U64", 8),
    "complex64": ("C64", 8),
    "float32": ("F32", 4),
    "int32": ("I32", 4),
    "uint32": ("U32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "int16": ("I16", 2),
    "uint16": ("U16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
}


@dataclass(frozen=True)
class Box:
    """A contiguous region of a tensor: where it begins and how long it is in each dimension."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def intersection(self, other: Box) -> Box | None:
        """What both cover; None when that is nothing."""
        low = tuple(max(mine, theirs) for mine, theirs in zip(self.offset, other.offset, strict=True))
        ends = zip(self.offset, self.shape, other.offset, other.shape, strict=True)
        high = tuple(min(mine + size, theirs + length) for mine, size, theirs, length in ends)
        shape = tuple(end - begin for begin, end in zip(low, high, strict=True))
        return Box(low, shape) if all(size > 0 for size in shape) else None

    def within(self, outer: Box) -> tuple[slice, ...]:
        """The slices that cut this box out of a tensor that holds `outer`."""
        pairs = zip(self.offset, self.shape, outer.offset, strict=True)
        return tuple(slice(begin - first, begin - first + size) for begin, size, first in pairs)


@dataclass(frozen=True)
class Held:
    """A box of the tensor `name`, of the whole shape `whole`, that a rank holds. `copies`: whether any holder's copy is as good."""

    name: str
    dtype: str
    whole: tuple[int, ...]
    box: Box
    copies: bool

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.box.elements * DTYPES[self.dtype][1]

    def to_json(self) -> list[Any]:
        """A plain list that `held_of` takes."""
        return [self.name, self.dtype, list(self.whole), list(self.box.offset), list(self.box.shape), self.copies]


def held_of(values: Sequence[Any]) -> Held:
    """The inverse of `Held.to_json`."""
    name, dtype, whole, offset, shape, copies = values
    return Held(name, dtype, tuple(whole), Box(tuple(offset), tuple(shape)), bool(copies))


def dealt(ranks: Sequence[Sequence[Held]]) -> list[list[int]]:
    """For each rank the places, in what it holds, of what it writes: every box once, copies spread so that ranks write about equally.

    A box of which copies may differ (buffers) is written by the lowest rank that has it.
    """
    holders: dict[tuple[str, Box], list[tuple[int, int]]] = {}
    for rank, held in enumerate(ranks):
        for place, each in enumerate(held):
            if each.box.elements or not math.prod(each.whole):
                holders.setdefault((each.name, each.box), []).append((rank, place))
    written: list[list[int]] = [[] for _ in ranks]
    load = [0] * len(ranks)
    shared = []
    for (name, box), who in holders.items():
        first = ranks[who[0][0]][who[0][1]]
        if len(who) == 1 or not first.copies:
            written[who[0][0]].append(who[0][1])
            load[who[0][0]] += first.nbytes
        else:
            shared.append((-first.nbytes, name, box.offset, who))
    for size, _, _, who in sorted(shared):
        rank, place = min(who, key=lambda each: (load[each[0]], each[0]))
        written[rank].append(place)
        load[rank] -= size
    return [sorted(places) for places in written]


@dataclass(frozen=True)
class Piece:
    """A box in a part file, `begin` bytes after the file's first."""

    held: Held
    begin: int

    def to_json(self) -> list[Any]:
        """A plain list that `piece_of` takes."""
        return [*self.held.to_json()[:5], self.begin]


def piece_of(values: Sequence[Any]) -> Piece:
    """The inverse of `Piece.to_json`."""
    *held, begin = values
    return Piece(held_of([*held, True]), int(begin))


@dataclass(frozen=True)
class FileLayout:
    """How a part file is laid out: its header, and the pieces in the order in which they were given."""

    header: bytes
    pieces: tuple[Piece, ...]
    nbytes: int


def file_layout(written: Iterable[Held]) -> FileLayout:
    """The layout of a file with these boxes. Large types come first, so every piece is aligned, and nothing lies between two."""
    held = list(written)
    order = sorted(range(len(held)), key=lambda place: (-DTYPES[held[place].dtype][1], place))
    offsets: dict[int, int] = {}
    end = 0
    for place in order:
        offsets[place] = end
        end += held[place].nbytes
    entries: dict[str, Any] = {}
    for place in order:
        each = held[place]
        entry = {
            "dtype": DTYPES[each.dtype][0],
            "shape": list(each.box.shape),
            "data_offsets": [offsets[place], offsets[place] + each.nbytes],
        }
        entries[_entry_name(each)] = entry
    text = json.dumps(entries, separators=(",", ":")).encode()
    text = text.ljust(-(-(len(text) + 8) // HEADER_ALIGNMENT) * HEADER_ALIGNMENT - 8)
    header = len(text).to_bytes(8, "little") + text
    pieces = tuple(Piece(each, len(header) + offsets[place]) for place, each in enumerate(held))
    return FileLayout(header, pieces, len(header) + end)


def _entry_name(held: Held) -> str:
    if held.box.shape == held.whole:
        return held.name
    return f"{held.name}@{','.join(map(str, held.box.offset))}"


def checked_dtype(name: str, dtype: str) -> str:
    """`dtype` if it can be kept. Raises CheckpointError, with the tensor's name."""
    if dtype not in DTYPES:
        raise CheckpointError("a tensor of this type cannot be kept", value=f"{name}: {dtype}", fix=f"use one of {', '.join(DTYPES)}")
    return dtype


def covered(wanted: Box, boxes: Iterable[Box]) -> bool:
    """Whether disjoint `boxes` cover all of `wanted`."""
    found = [wanted.intersection(box) for box in boxes] if wanted.elements else []
    return sum(each.elements for each in found if each is not None) == wanted.elements
