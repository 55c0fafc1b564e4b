"""Cuts follow the content: bounded, the same wherever the content lies, and soon the same again after an edit."""

from __future__ import annotations

import os
import random
from itertools import pairwise

from bedplate.data.trees.cuts import LEAST_BYTES, WINDOW_BYTES, WORD_BYTES, ends


def cuts(data: bytes, begin: int = 0) -> list[int]:
    return list(ends(len(data), lambda at, count: data[at : at + count], begin))


def test_chunks_are_bounded_and_cover_everything() -> None:
    for data in (random.Random(1).randbytes(6 << 20), bytes(4 << 20), b"ab" * (2 << 20), b"x", os.urandom(LEAST_BYTES + WINDOW_BYTES)):
        found = [0, *cuts(data)]
        assert found[-1] == len(data)
        lengths = [end - begin for begin, end in pairwise(found)]
        assert all(LEAST_BYTES <= length <= LEAST_BYTES + WINDOW_BYTES + WORD_BYTES for length in lengths[:-1])
        assert lengths[-1] <= LEAST_BYTES + WINDOW_BYTES + WORD_BYTES


def test_a_cut_depends_on_what_follows_the_cut_before_only() -> None:
    data = random.Random(2).randbytes(5 << 20)
    assert [end - 77 for end in cuts(b"\1" * 77 + data, 77)] == cuts(data)


def test_an_edit_in_place_spoils_two_chunks_at_most() -> None:
    data = bytearray(random.Random(3).randbytes(12 << 20))
    before = cuts(bytes(data))
    data[5 << 20] ^= 1
    assert len(set(before) - set(cuts(bytes(data)))) <= 1
