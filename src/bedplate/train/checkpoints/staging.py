"""Staging memory: where a rank's share of a checkpoint is copied while the training step waits, and nothing else is done.

The buffer is laid out like the file that it becomes, and is used again for the next checkpoint. For tensors of an accelerator it is pinned,
so that they come while the device goes on.
Does not know: files, digests, or names.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from threading import Lock, Thread
from typing import Any

import torch

from bedplate.train.checkpoints.layout import FileLayout

COPY_BYTES = 8 << 20  # of one turn of a copying thread
ALONE_BYTES = 32 << 20  # up to here the calling thread copies alone

Move = tuple[int, int, int]  # to, from, bytes


class Staging:
    """One rank's buffer. `arrived` gives the content of the part file once all of it is there."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._event: torch.cuda.Event | None = None
        self._nbytes = 0
        self._layout: FileLayout | None = None
        self._views: list[torch.Tensor] = []

    def copy(self, layout: FileLayout, tensors: Sequence[torch.Tensor]) -> None:
        """Copy `tensors`, one for each piece of `layout`. What leaves an accelerator is still on its way when this returns."""
        pinned = any(tensor.is_cuda for tensor in tensors)
        if layout is not self._layout:
            self._prepare(layout, tensors, pinned=pinned)
        moves: list[Move] = []
        for view, tensor in zip(self._views, tensors, strict=True):
            if tensor.device.type == "cpu" and tensor.is_contiguous():
                moves.append((view.data_ptr(), tensor.data_ptr(), view.nbytes))
            else:
                view.copy_(tensor, non_blocking=True)
        move(moves, torch.get_num_threads())
        self._event = None
        if pinned:
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch has no types for it
            self._event.record()

    def arrived(self) -> memoryview:
        """Wait until all is there; the bytes of the file."""
        if self._event is not None:
            self._event.synchronize()
        array: Any = self._buffer.numpy()
        return memoryview(array)[: self._nbytes]

    def _prepare(self, layout: FileLayout, tensors: Sequence[torch.Tensor], *, pinned: bool) -> None:
        self._views = []
        if self._buffer.numel() < layout.nbytes or self._buffer.is_pinned() != pinned:
            self._buffer = torch.empty(0, dtype=torch.uint8)  # freed before the next is taken
            self._buffer = torch.empty(layout.nbytes, dtype=torch.uint8, pin_memory=pinned)
        header = len(layout.header)
        self._buffer[:header] = torch.frombuffer(bytearray(layout.header), dtype=torch.uint8)
        for piece, tensor in zip(layout.pieces, tensors, strict=True):
            region = self._buffer[piece.begin : piece.begin + piece.held.nbytes]
            self._views.append(region.view(tensor.dtype).view(tensor.shape))
        self._nbytes, self._layout = layout.nbytes, layout


def move(moves: Sequence[Move], threads: int) -> None:
    """Copy memory with up to `threads` threads, this one among them: each takes the next turn, so none waits for one that is not scheduled.

    torch's own copy has its threads meet after every tensor; on busy cores that took three times as long as one large copy.
    """
    turns = _turns(moves)
    lock = Lock()

    def work() -> None:
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            ctypes.memmove(*turn)  # releases the interpreter's lock

    large = sum(size for _, _, size in moves) > ALONE_BYTES
    others = [Thread(target=work, name="checkpoint-copy", daemon=True) for _ in range(threads - 1 if large else 0)]
    for each in others:
        each.start()
    work()
    for each in others:
        each.join()


def _turns(moves: Sequence[Move]) -> Iterator[Move]:
    for to, source, size in moves:
        for begin in range(0, size, COPY_BYTES):
            yield to + begin, source + begin, min(COPY_BYTES, size - begin)
