"""Protocol buffers without their schema: checked against the bytes of the specification and of the library."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.models.wire import Field, fields


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_the_examples_of_the_encoding_guide() -> None:
    assert fields(bytes.fromhex("089601")) == [Field(1, 150)]
    [text] = fields(bytes.fromhex("120774657374696e67"))
    assert (text.number, text.text) == (2, "testing")
    [embedded] = fields(bytes.fromhex("1a03089601"))
    assert embedded.message == [Field(1, 150)]
    assert fields(bytes.fromhex("08fe ffffffffffffffff01".replace(" ", "")))[0].signed == -2


@given(st.lists(st.tuples(st.integers(1, 2000), st.one_of(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40)))))
def test_whatever_is_encoded_is_read_again(values: list[tuple[int, int | bytes]]) -> None:
    data = b""
    for number, value in values:
        data += varint(number << 3) + varint(value) if isinstance(value, int) else varint(number << 3 | 2) + varint(len(value)) + value
    assert [(each.number, each.data if isinstance(each.value, bytes) else each.signed) for each in fields(data)] == values


@given(st.floats())
def test_doubles_and_fixed_numbers(value: float) -> None:
    [double, fixed] = fields(varint(3 << 3 | 1) + struct.pack("<d", value) + varint(4 << 3 | 5) + struct.pack("<I", 77))
    assert double.double == value or math.isnan(value)
    assert fixed.signed == 77


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_an_error_and_nothing_else(data: bytes) -> None:
    try:
        found = fields(data)
    except DataError:
        return
    assert all(each.number > 0 for each in found)


@pytest.mark.parametrize(
    ("data", "message"),
    [("00", "field 0"), ("0c", "wire type 4"), ("1205ab", "cut short"), ("08", "cut short"), ("08" + "ff" * 11, "too long")],
)
def test_damage_is_named(data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fields(bytes.fromhex(data))


def test_a_field_of_another_kind_is_an_error() -> None:
    with pytest.raises(DataError, match="field 1 is a number"):
        _ = Field(1, 150).text
    with pytest.raises(DataError, match="field 1 is no number"):
        _ = Field(1, b"x").signed
    with pytest.raises(DataError, match="is no text"):
        _ = Field(1, b"\xff").text


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 2**29 - 1))
def test_every_number_of_64_bits_and_every_field_is_read(value: int, number: int) -> None:
    [found] = fields(varint(number << 3) + varint(value))
    assert (found.number, found.value) == (number, value)
    assert found.signed == (value if value < 2**63 else value - 2**64)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.binary(min_size=1, max_size=10)), min_size=1, max_size=4), st.data())
def test_a_message_that_was_cut_gives_its_first_fields_or_an_error(parts: list[tuple[int, bytes]], data: st.DataObject) -> None:
    pieces = [varint(number << 3 | 2) + varint(len(value)) + value for number, value in parts]
    whole = b"".join(pieces)
    end = data.draw(st.integers(0, len(whole) - 1))
    ends = [sum(map(len, pieces[:count])) for count in range(len(pieces))]
    if end in ends:
        assert fields(whole[:end]) == fields(whole)[: ends.index(end)]
    else:
        with pytest.raises(DataError, match="cut short"):
            fields(whole[:end])


@pytest.mark.parametrize("kind", [3, 4, 6, 7])
def test_groups_and_unknown_wire_types_are_refused_by_their_number(kind: int) -> None:
    with pytest.raises(DataError, match=f"wire type {kind}"):
        fields(bytes([1 << 3 | kind]))


def test_fields_come_in_order_repeated_ones_too() -> None:
    assert fields(bytes.fromhex("0801 1201 61 0802 1200")) == [Field(1, 1), Field(2, b"a"), Field(1, 2), Field(2, b"")]
    assert fields(b"") == []
