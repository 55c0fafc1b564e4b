"""Staging: what is copied does not follow the training that goes on, and the buffer is used again."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from bedplate.train.checkpoints import staging
from bedplate.train.checkpoints.layout import Box, FileLayout, Held, file_layout


def layout_of(*tensors: torch.Tensor) -> FileLayout:
    return file_layout(
        Held(
            str(number), str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), Box((0,) * tensor.dim(), tuple(tensor.shape)), True
        )
        for number, tensor in enumerate(tensors)
    )


def test_the_bytes_are_a_file_of_the_tensors_as_they_were() -> None:
    one, other = torch.arange(12.0).reshape(3, 4), torch.tensor(True)
    layout, buffer = layout_of(one.t(), other), staging.Staging()
    buffer.copy(layout, [one.t(), other])  # not contiguous
    one += 1
    loaded = load(bytes(buffer.arrived()))
    assert torch.equal(loaded["0"], torch.arange(12.0).reshape(3, 4).t())
    assert loaded["1"]
    first = torch.frombuffer(buffer.arrived(), dtype=torch.uint8).data_ptr()
    buffer.copy(layout, [one.t(), other])
    assert torch.frombuffer(buffer.arrived(), dtype=torch.uint8).data_ptr() == first
    assert torch.equal(load(bytes(buffer.arrived()))["0"], one.t())


def test_another_layout_takes_other_memory() -> None:
    buffer = staging.Staging()
    for size in (3, 50_000, 7):
        tensor = torch.full((size,), float(size))
        buffer.copy(layout_of(tensor), [tensor])
        assert torch.equal(load(bytes(buffer.arrived()))["0"], tensor)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 30_000), max_size=6), st.integers(1, 4))
def test_every_byte_is_moved_by_however_many_threads(sizes: list[int], threads: int) -> None:
    sources = [torch.randint(0, 255, (size,), dtype=torch.uint8) for size in sizes]
    targets = [torch.zeros_like(source) for source in sources]
    before = staging.ALONE_BYTES, staging.COPY_BYTES
    try:
        staging.ALONE_BYTES, staging.COPY_BYTES = 10_000, 999
        staging.move(
            [(target.data_ptr(), source.data_ptr(), source.nbytes) for target, source in zip(targets, sources, strict=True)], threads
        )
    finally:
        staging.ALONE_BYTES, staging.COPY_BYTES = before
    assert all(torch.equal(target, source) for target, source in zip(targets, sources, strict=True))
