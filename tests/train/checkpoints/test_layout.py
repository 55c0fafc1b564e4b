"""Boxes, who writes what, and the layout of a file."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.layout import Box, Held, Piece, checked_dtype, covered, dealt, file_layout, held_of, piece_of


def held(name: str, size: int, *, offset: int = 0, whole: int | None = None, copies: bool = True) -> Held:
    return Held(name, "float32", (whole or size,), Box((offset,), (size,)), copies)


boxes = st.integers(1, 3).flatmap(
    lambda dims: st.tuples(*[st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=dims, max_size=dims) for _ in range(2)])
)


@given(boxes)
def test_the_intersection_is_what_both_cover(pair: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> None:
    one, other = (Box(tuple(begin for begin, _ in each), tuple(size for _, size in each)) for each in pair)
    painted = np.zeros([9] * len(one.shape), dtype=int)
    for box in (one, other):
        painted[tuple(slice(begin, begin + size) for begin, size in zip(box.offset, box.shape, strict=True))] += 1
    common = one.intersection(other)
    assert (painted == 2).sum() == (common.elements if common else 0)
    if common is not None:
        assert painted[common.within(Box((0,) * len(one.shape), (9,) * len(one.shape)))].min() == 2


def test_every_box_is_written_once_and_copies_are_spread() -> None:
    copies = [held(f"w{number}", 100) for number in range(8)]
    ranks = [[*copies, held("mine", 10, offset=10 * rank, whole=40)] for rank in range(4)]
    written = dealt(ranks)
    names = [(ranks[rank][place].name, ranks[rank][place].box) for rank, places in enumerate(written) for place in places]
    assert len(names) == len(set(names)) == 12
    assert [sum(ranks[rank][place].nbytes for place in places) for rank, places in enumerate(written)] == [840] * 4


def test_copies_that_may_differ_are_written_by_the_lowest_rank_that_has_them() -> None:
    buffers = [held(f"running_mean{number}", 100, copies=False) for number in range(4)]
    assert dealt([[], buffers, buffers]) == [[], [0, 1, 2, 3], []]


def test_an_empty_share_is_not_written_but_an_empty_tensor_is() -> None:
    assert dealt([[held("w", 4, whole=4)], [held("w", 0, offset=4, whole=4)]]) == [[0], []]
    empty = Held("nothing", "float32", (0,), Box((0,), (0,)), copies=True)
    assert dealt([[empty], [empty]]) == [[0], []]


def test_a_file_is_safetensors_and_pieces_are_aligned() -> None:
    given_ = [
        Held("bytes", "uint8", (3,), Box((0,), (3,)), copies=True),
        Held("half", "bfloat16", (2, 4), Box((1, 0), (1, 4)), copies=True),
        Held("long", "int64", (), Box((), ()), copies=True),
    ]
    layout = file_layout(given_)
    data = bytearray(layout.header.ljust(layout.nbytes, b"\0"))
    values = {"bytes": torch.tensor([1, 2, 3], dtype=torch.uint8), "half": torch.ones(1, 4, dtype=torch.bfloat16), "long": torch.tensor(7)}
    for piece in layout.pieces:
        raw = values[piece.held.name].reshape(-1).view(torch.uint8).numpy().tobytes()
        data[piece.begin : piece.begin + len(raw)] = raw
        assert piece.begin % torch.empty(0, dtype=getattr(torch, piece.held.dtype)).element_size() == 0
    loaded = load(bytes(data))
    assert set(loaded) == {"bytes", "half@1,0", "long"}
    assert loaded["long"] == 7
    assert torch.equal(loaded["half@1,0"], values["half"])


def test_what_travels_comes_back() -> None:
    one = held("w", 3, offset=2, whole=9, copies=False)
    assert held_of(one.to_json()) == one
    assert piece_of(Piece(held("w", 3), 64).to_json()) == Piece(held("w", 3), 64)


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_a_box_is_covered_by_all_of_its_parts_and_by_no_fewer(cut: int) -> None:
    whole = Box((0, 0), (10, 4))
    parts = [Box((begin, 0), (min(cut, 10 - begin), 4)) for begin in range(0, 10, cut)]
    assert covered(whole, parts)
    assert not any(covered(whole, fewer) for fewer in itertools.combinations(parts, len(parts) - 1))


def test_a_type_that_no_file_can_hold_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"0\.w: complex128"):
        checked_dtype("0.w", "complex128")
