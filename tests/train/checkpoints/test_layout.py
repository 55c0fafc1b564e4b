"""Boxes, who writes what, and the layout of a file."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.layout import (
    DTYPES,
    HEADER_ALIGNMENT,
    Box,
    Held,
    Piece,
    checked_dtype,
    covered,
    dealt,
    file_layout,
    held_of,
    piece_of,
)


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


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (Box((0,), (4,)), Box((2,), (4,)), Box((2,), (2,))),
        (Box((0,), (2,)), Box((2,), (2,)), None),
        (Box((0, 0), (4, 4)), Box((1, 2), (1, 9)), Box((1, 2), (1, 2))),
        (Box((0, 0), (4, 4)), Box((4, 0), (1, 4)), None),
        (Box((3,), (0,)), Box((0,), (9,)), None),
        (Box((), ()), Box((), ()), Box((), ())),
    ],
)
def test_an_intersection_by_hand(one: Box, other: Box, common: Box | None) -> None:
    assert one.intersection(other) == other.intersection(one) == common


def test_boxes_of_different_dimensions_have_nothing_to_do_with_one_another() -> None:
    with pytest.raises(ValueError, match="zip"):
        Box((0,), (4,)).intersection(Box((0, 0), (4, 4)))


def test_a_box_is_cut_out_of_what_holds_it() -> None:
    outer = Box((10, 20), (5, 5))
    assert Box((12, 20), (2, 3)).within(outer) == (slice(2, 4), slice(0, 3))
    assert Box((), ()).within(Box((), ())) == ()


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_type_has_the_size_that_torch_gives_it_and_a_name_that_safetensors_reads(dtype: str) -> None:
    of_torch = getattr(torch, dtype)
    assert DTYPES[dtype][1] == torch.empty(0, dtype=of_torch).element_size()
    each = Held("w", dtype, (3,), Box((0,), (3,)), copies=True)
    assert each.nbytes == 3 * DTYPES[dtype][1]
    layout = file_layout([each])
    loaded = load(layout.header + bytes(layout.nbytes - len(layout.header)))
    assert (loaded["w"].dtype, loaded["w"].shape) == (of_torch, (3,))
    assert checked_dtype("w", dtype) == dtype


held_any = st.builds(
    lambda number, dtype, rows, columns, copies: Held(f"t{number}", dtype, (rows, columns), Box((0, 0), (rows, columns)), copies),
    st.integers(0, 10**6), st.sampled_from(sorted(DTYPES)), st.integers(0, 5), st.integers(0, 5), st.booleans(),
)  # fmt: skip


@given(st.lists(held_any, max_size=12, unique_by=lambda each: each.name))
def test_pieces_lie_without_gaps_or_overlaps_and_each_where_its_type_may(given_: list[Held]) -> None:
    layout = file_layout(given_)
    assert [piece.held for piece in layout.pieces] == given_
    assert len(layout.header) % HEADER_ALIGNMENT == 0
    at = len(layout.header)
    for piece in sorted(layout.pieces, key=lambda piece: (piece.begin, piece.begin + piece.held.nbytes)):
        assert piece.begin == at
        assert piece.begin % DTYPES[piece.held.dtype][1] == 0
        at += piece.held.nbytes
    assert at == layout.nbytes
    assert file_layout(given_) == layout


def test_the_header_says_where_each_tensor_is() -> None:
    small, large = Held("b", "int8", (3,), Box((0,), (3,)), True), Held("w", "float64", (4, 2), Box((2, 0), (1, 2)), True)
    layout = file_layout([small, large])
    length = int.from_bytes(layout.header[:8], "little")
    assert length == len(layout.header) - 8
    assert json.loads(layout.header[8:]) == {
        "w@2,0": {"dtype": "F64", "shape": [1, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "I8", "shape": [3], "data_offsets": [16, 19]},
    }
    assert layout.nbytes == len(layout.header) + 19


def test_a_file_of_nothing_is_a_file() -> None:
    layout = file_layout([])
    assert layout.pieces == ()
    assert load(layout.header) == {}


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50), st.booleans()), max_size=6, unique_by=lambda each: each[0]), max_size=5
    )
)
def test_whoever_holds_what_each_box_is_written_by_one_of_its_holders(world: list[list[tuple[int, int, bool]]]) -> None:
    sizes = {number: size for rank in world for number, size, _ in rank}
    ranks = [[held(f"w{number}", sizes[number], copies=copies) for number, _, copies in rank] for rank in world]
    written = dealt(ranks)
    names = [ranks[rank][place].name for rank, places in enumerate(written) for place in places]
    assert sorted(names) == sorted({each.name for rank in ranks for each in rank})
    assert all(places == sorted(places) for places in written)
    assert dealt(ranks) == written, "all ranks come to the same by themselves"


def test_the_largest_are_dealt_first_so_that_the_smaller_even_out() -> None:
    sizes = (1, 5, 3, 3)
    ranks = [[held(f"w{number}", size) for number, size in enumerate(sizes)] for _ in range(2)]
    assert dealt(ranks) == [[1, 0], [2, 3]] or dealt(ranks) == [[0, 1], [2, 3]]
    assert [sum(sizes[place] for place in places) for places in dealt(ranks)] == [6, 6]


def test_what_only_one_rank_has_counts_against_its_share_of_the_copies() -> None:
    copy = held("copy", 10)
    assert dealt([[held("own", 100), copy], [copy]]) == [[0], [0]]


@pytest.mark.parametrize(
    ("wanted", "boxes", "whole"),
    [
        (Box((0,), (4,)), [Box((0,), (2,)), Box((2,), (2,))], True),
        (Box((1,), (2,)), [Box((0,), (9,))], True),
        (Box((0,), (4,)), [Box((0,), (3,))], False),
        (Box((0,), (4,)), [], False),
        (Box((2,), (0,)), [], True),
        (Box((), ()), [Box((), ())], True),
        (Box((), ()), [], False),
    ],
)
def test_what_is_covered_by_hand(wanted: Box, boxes: list[Box], whole: bool) -> None:
    assert covered(wanted, boxes) is whole


@given(held_any)
def test_anything_held_travels(each: Held) -> None:
    assert held_of(json.loads(json.dumps(each.to_json()))) == each
    piece = piece_of(json.loads(json.dumps(Piece(each, 640).to_json())))
    assert (piece.held.name, piece.held.box, piece.held.dtype, piece.begin) == (each.name, each.box, each.dtype, 640)
