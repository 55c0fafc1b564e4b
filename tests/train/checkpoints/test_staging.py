"""Staging: what is copied does not follow the training that goes on, and the buffer is used again."""

from __future__ import annotations

import threading

import pytest
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


DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_arrives_bit_for_bit(dtype: torch.dtype) -> None:
    raw = torch.arange(1, 1 + 6 * torch.empty(0, dtype=dtype).element_size(), dtype=torch.uint8)
    tensor = (raw % 2).view(torch.bool)[:6] if dtype == torch.bool else raw.view(dtype)
    buffer = staging.Staging()
    buffer.copy(layout_of(tensor.reshape(2, 3)), [tensor.reshape(2, 3)])
    loaded = load(bytes(buffer.arrived()))["0"]
    assert (loaded.dtype, loaded.shape) == (dtype, (2, 3))
    assert torch.equal(loaded.reshape(-1).view(torch.uint8), tensor.contiguous().view(torch.uint8))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(4, 6)[:, ::2],
        torch.arange(24.0).reshape(4, 6)[1:3],
        torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        torch.ones(1).expand(5, 3),
        torch.tensor(2.5),
        torch.empty(0, 3),
    ],
    ids=["strided", "rows", "permuted", "expanded", "scalar", "empty"],
)
def test_whatever_way_a_tensor_lies_in_memory_its_values_are_copied(tensor: torch.Tensor) -> None:
    buffer = staging.Staging()
    buffer.copy(layout_of(tensor), [tensor])
    assert torch.equal(load(bytes(buffer.arrived()))["0"], tensor)


def test_a_parameter_that_needs_a_gradient_is_copied_without_one() -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    buffer = staging.Staging()
    with torch.no_grad():
        buffer.copy(layout_of(weight.t()), [weight.t()])
    assert torch.equal(load(bytes(buffer.arrived()))["0"], weight.detach().t())


def test_nothing_was_copied_into_a_new_buffer_and_a_smaller_layout_gives_fewer_bytes() -> None:
    buffer = staging.Staging()
    assert len(buffer.arrived()) == 0
    for count in (1000, 10):
        tensor = torch.zeros(count, dtype=torch.uint8)
        layout = layout_of(tensor)
        buffer.copy(layout, [tensor])
        assert len(buffer.arrived()) == layout.nbytes == len(layout.header) + count


def test_as_many_tensors_as_pieces_are_asked_for() -> None:
    one = torch.ones(2)
    layout, buffer = layout_of(one, one), staging.Staging()
    with pytest.raises(ValueError, match="zip"):
        buffer.copy(layout, [one])


def test_a_large_copy_is_shared_by_threads_that_are_gone_when_it_is_done() -> None:
    source = torch.randint(0, 255, (staging.ALONE_BYTES + 12_345,), dtype=torch.uint8)
    target = torch.zeros_like(source)
    staging.move([(target.data_ptr(), source.data_ptr(), source.nbytes)], 3)
    assert torch.equal(source, target)
    assert not [each for each in threading.enumerate() if each.name == "checkpoint-copy"]


def test_nothing_to_move_is_nothing() -> None:
    staging.move([], 4)
    staging.move([(0, 0, 0)], 1)
