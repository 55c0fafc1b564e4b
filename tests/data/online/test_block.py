"""Blocks: what is encoded comes back, taken, joined and with only the texts that are used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.data.online.block import Block, decode, joined

TEXT_ROWS = (1,)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    size = draw(st.integers(0, 6))
    texts = tuple(draw(st.lists(st.text(max_size=5), min_size=1, max_size=4)))
    numbers = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=size, max_size=size))
    places = draw(st.lists(st.integers(-1, len(texts) - 1), min_size=size, max_size=size))
    marks = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    hashes = [draw(st.lists(st.integers(0, 2**64 - 1), max_size=3)) for _ in range(size)]
    sketches = (tuple(np.array(each, np.uint64) for each in hashes),)
    return Block(np.array([numbers, places], np.int64).reshape(2, size), np.array([marks], np.uint8).reshape(1, size), texts, sketches)


def content(block: Block) -> list[object]:
    """The columns as plain values."""
    texts = [block.texts[place] if place >= 0 else None for place in block.matrix[1].tolist()]
    sketches = [each.tolist() for each in block.sketches[0]] if block.size else []
    return [block.matrix[0].tolist(), texts, block.marks.tolist(), sketches]


@given(blocks())
def test_what_is_encoded_comes_back(block: Block) -> None:
    body = b"before" + block.encode(TEXT_ROWS)
    again = decode(body, 6)
    assert content(again) == content(block)
    assert set(again.texts) == {text for text in content(block)[1] if text is not None}  # type: ignore[attr-defined]  # a list of texts


@given(blocks(), blocks())
def test_blocks_are_joined_and_taken_apart(first: Block, second: Block) -> None:
    both = joined(first, second, TEXT_ROWS)
    assert content(both.take(slice(0, first.size))) == content(first)
    assert content(both.take(np.arange(both.size) >= first.size)) == content(second)
    assert content(decode(both.encode(TEXT_ROWS))) == content(both)


def test_another_layout_is_refused() -> None:
    body = Block(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.uint8)).encode(())
    with pytest.raises(DataError, match="another layout"):
        decode(b"\x09" + body[1:])
