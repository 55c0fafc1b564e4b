"""Protocol buffers as they lie on the wire: the numbered fields of a message, without its schema.

The encoding is https://protobuf.dev/programming-guides/encoding/. Enough to read ONNX files and W&B's run files without their packages.
Does not know: names of fields or messages; who reads knows the numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from bedplate.core.errors import DataError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class Field(NamedTuple):
    """One field: its number, and its value: an int for varint and fixed-width fields, else bytes."""

    number: int
    value: int | bytes

    @property
    def message(self) -> list[Field]:
        """The fields of an embedded message. Raises DataError when it is none."""
        return fields(self.data)

    @property
    def data(self) -> bytes:
        """The bytes of a length-delimited field. Raises DataError for a number."""
        if isinstance(self.value, int):
            raise _damaged(f"field {self.number} is a number")
        return self.value

    @property
    def text(self) -> str:
        """A string field. Raises DataError for what is none."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise _damaged(f"field {self.number} is no text") from error

    @property
    def signed(self) -> int:
        """An int64 field. Raises DataError for bytes."""
        if not isinstance(self.value, int):
            raise _damaged(f"field {self.number} is no number")
        return self.value - (1 << 64) if self.value >= 1 << 63 else self.value

    @property
    def double(self) -> float:
        """A double field, kept as a fixed 64-bit number. Raises DataError for bytes."""
        return float(struct.unpack("<d", struct.pack("<q", self.signed))[0])


def fields(data: bytes) -> list[Field]:
    """The fields of a message, in order. Raises DataError where the bytes are no message."""
    return list(_fields(data))


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise _damaged("field 0")
        if kind == VARINT:
            value, at = _varint(data, at)
            yield Field(number, value)
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise _damaged(f"wire type {kind}")
        if at + length > len(data):
            raise _damaged("it is cut short")
        piece, at = data[at : at + length], at + length
        yield Field(number, piece if kind == BYTES else int.from_bytes(piece, "little"))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= len(data):
            raise _damaged("it is cut short")
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & ((1 << 64) - 1), at + place + 1
    raise _damaged("a number is too long")


def _damaged(why: str) -> DataError:
    return DataError(f"the bytes are no protocol buffer: {why}")
