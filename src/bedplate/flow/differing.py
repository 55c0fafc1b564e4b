"""The first difference between two folders that should be equal: which file, and in it which array, key or place.

Weights are compared array by array (safetensors: an 8-byte length, a JSON header with dtypes, shapes and offsets, then the bytes), so are
`.npy` files; JSON is compared key by key.
Does not know: what the folders are, or why they differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.core.digest import digest_file

_LAST = ("manifest.json", "view.json")  # they name the others' digests: what they say follows from those
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def first_difference(before: Path, after: Path) -> str:
    """The first difference in a few words, empty when there is none. Both are folders, or both are files."""
    names = sorted({*_files(before), *_files(after)}, key=lambda name: (name in _LAST, name))
    for name in names:
        one, two = before / name if name else before, after / name if name else after
        shown = name or before.name
        if not one.is_file() or not two.is_file():
            return f"the file {shown} is {'new' if not one.is_file() else 'missing'}"
        if digest_file(one) != digest_file(two):
            return f"the file {shown} differs: {_inside(one, two)}"
    return ""


def _files(place: Path) -> list[str]:
    if place.is_file():
        return [""]
    return [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]


def _inside(before: Path, after: Path) -> str:
    """What differs within two files of the same name."""
    if before.suffix == ".safetensors":
        return _arrays(_tensors(before), _tensors(after))
    if before.suffix == ".npy":
        return _arrays({"it": np.load(before, mmap_mode="r")}, {"it": np.load(after, mmap_mode="r")})
    if before.suffix == ".json":
        return _values("", json.loads(before.read_bytes()), json.loads(after.read_bytes()))
    return _bytes(before.read_bytes(), after.read_bytes())


def _bytes(one: bytes, two: bytes) -> str:
    place = next((place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    line = one[:place].count(b"\n") + 1
    return f"from byte {place} (line {line}) on, of {len(one)} and {len(two)} bytes"


def _tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file; a type that numpy lacks (BF16) as bytes."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, facts in header.items():
        begin, end = facts["data_offsets"]
        dtype = _DTYPES.get(facts["dtype"])
        raw = np.frombuffer(data, np.uint8, end - begin, start + begin)
        found[name] = raw.view(dtype).reshape(facts["shape"]) if dtype else raw
    return found


def _arrays(before: Mapping[str, npt.NDArray[Any]], after: Mapping[str, npt.NDArray[Any]]) -> str:
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            return f"the array {name} is {'new' if name not in before else 'missing'}"
        one, two = before[name], after[name]
        if one.shape != two.shape or one.dtype != two.dtype:
            return f"the array {name} is {one.dtype}{list(one.shape)}, then {two.dtype}{list(two.shape)}"
        if one.tobytes() != two.tobytes():
            return f"the array {name} differs{_distance(one, two)}"
    return "only in its header"


def _distance(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> str:
    if one.dtype.kind not in "iuf":
        return ""
    apart = np.abs(one.astype(np.float64) - two.astype(np.float64))
    return f" in {int((apart != 0).sum())} of {apart.size} values, at most by {float(np.nanmax(apart)):.3g}"


def _values(place: str, before: Any, after: Any) -> str:
    """The first key at which two JSON values differ, with both sides."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                return _values(f"{place}.{name}".lstrip("."), before.get(name), after.get(name))
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        number = next((number for number, (one, two) in enumerate(zip(before, after, strict=True)) if one != two), None)
        if number is not None:
            return _values(f"{place}[{number}]", before[number], after[number])
    return f"{place or 'it'} was {_short(before)} and is {_short(after)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"
