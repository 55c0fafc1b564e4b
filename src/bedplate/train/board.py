"""The board: shared memory in which every rank of one host writes how far it is, and its random generators at the last steps.

The host maps it before it forks, so what a rank wrote is there after its death: a replacement draws the numbers that the dead rank would
have drawn, and the host sees who made no progress without asking. One writer a seat; a reader takes a record only when its two
sequence numbers agree (a seqlock), so a rank killed while it writes leaves the record before.
Does not know: what is done about a rank that stands still (`hangs`), or who reads the generators (`memory`).
"""

from __future__ import annotations

import ctypes
import mmap
import random
import struct
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

PLACES: Final = ("start", "input", "user", "meeting", "checkpoint", "outside", "restore")  # where a rank is, as far as the loop can tell
KEPT_STEPS = 3
RECORD_BYTES = 16_384
_HEAD = struct.Struct("=qdqdd")  # steps, moved at, place, stepped at, longest step
_RECORD = struct.Struct("=qqqq")  # sequence, step, bytes, sequence again
_NUMPY = struct.Struct("=qqd")
_PYTHON = struct.Struct("=qqd")
SEAT_BYTES = 64 + KEPT_STEPS * RECORD_BYTES


@dataclass(frozen=True)
class Standing:
    """How far a rank is: `steps` finished in all loops, where it is, when that last changed (monotonic seconds), its longest step."""

    steps: int
    place: str
    moved_at_s: float
    longest_step_s: float


class Board:
    """The seats of at most `seats` ranks. Pages are given by the kernel when they are written."""

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self._memory = mmap.mmap(-1, 64 + seats * SEAT_BYTES)

    def seat(self, number: int) -> BoardSeat:
        """The seat of rank `number`. Raises IndexError where there is none."""
        if not 0 <= number < self.seats:
            raise IndexError(number)
        return BoardSeat(self._memory, 64 + number * SEAT_BYTES)

    @property
    def called(self) -> int:
        """The generation that the host wants to begin at the next meeting of the ranks."""
        return int.from_bytes(self._memory[:8], "little")

    @called.setter
    def called(self, generation: int) -> None:
        """Call for a generation; the ranks see it when they meet."""
        self._memory[:8] = generation.to_bytes(8, "little")


class BoardSeat:
    """One rank's part of the board."""

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory = memory
        self._start = start

    def clear(self) -> None:
        """Begin anew: a replacement has done nothing yet. The generators of its predecessor stay."""
        _HEAD.pack_into(self._memory, self._start, -1, time.monotonic(), 0, 0.0, 0.0)

    def standing(self) -> Standing:
        """How far the rank is."""
        steps, moved_at_s, place, _, longest_s = _HEAD.unpack_from(self._memory, self._start)
        return Standing(steps, PLACES[place], moved_at_s, longest_s)

    def move(self, place: str, steps: int | None = None) -> None:
        """Say where the rank is now; with `steps`, that so many steps are finished. Costs about a microsecond."""
        before, _, _, stepped_at_s, longest_s = _HEAD.unpack_from(self._memory, self._start)
        now = time.monotonic()
        if steps is not None:
            if steps == before + 1 and stepped_at_s:
                longest_s = max(longest_s, now - stepped_at_s)
            before, stepped_at_s = steps, now
        _HEAD.pack_into(self._memory, self._start, before, now, PLACES.index(place), stepped_at_s, longest_s)

    def keep_generators(self, step: int) -> None:
        """Keep the states of this process's generators (torch's for the CPU, numpy's, Python's) as those after `step`."""
        data = packed_generators()
        start = self._start + 64 + (step % KEPT_STEPS) * RECORD_BYTES
        sequence = _RECORD.unpack_from(self._memory, start)[0] + 1
        struct.pack_into("=q", self._memory, start, sequence)
        struct.pack_into("=qq", self._memory, start + 8, step, len(data))
        self._memory[start + 32 : start + 32 + len(data)] = data
        struct.pack_into("=q", self._memory, start + 24, sequence)

    def generators(self, step: int) -> bytes | None:
        """What was kept for `step`; None when that is not there, or was not written whole."""
        start = self._start + 64 + (step % KEPT_STEPS) * RECORD_BYTES
        first, kept, length, last = _RECORD.unpack_from(self._memory, start)
        if first != last or kept != step or not 0 < length <= RECORD_BYTES - 32:
            return None
        return self._memory[start + 32 : start + 32 + length]


def print_of_generators() -> tuple[bytes, bytes, object]:
    """What is equal as long as no number is drawn; cheaper than the states themselves (numpy's takes 30 microseconds to ask for)."""
    address = np.random.get_bit_generator().ctypes.state_address  # type: ignore[attr-defined] # numpy's stubs lack it
    return torch.get_rng_state().numpy().tobytes(), ctypes.string_at(address, 4 * 625), random.getstate()


def packed_generators() -> bytes:
    """The states of torch's generator for the CPU, numpy's and Python's, in 10,100 bytes. About 40 microseconds."""
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    numpy_state = state["state"]
    version, internal, gauss = random.getstate()
    return b"".join(
        [
            torch.get_rng_state().numpy().tobytes(),
            np.asarray(numpy_state["key"], dtype="<u4").tobytes(),
            _NUMPY.pack(int(numpy_state["pos"]), int(state["has_gauss"]), float(state["gauss"])),
            np.array(internal, dtype="<u4").tobytes(),
            _PYTHON.pack(version, gauss is not None, gauss or 0.0),
        ]
    )


def restore_packed(data: bytes) -> None:
    """Put back what `packed_generators` gave."""
    words = 4 * 624
    torch_bytes = len(data) - words - _NUMPY.size - 4 * 625 - _PYTHON.size
    torch.set_rng_state(torch.frombuffer(bytearray(data[:torch_bytes]), dtype=torch.uint8))
    at = torch_bytes
    keys = np.frombuffer(data, dtype="<u4", count=624, offset=at)
    position, has_gauss, gauss = _NUMPY.unpack_from(data, at + words)
    np.random.set_state(("MT19937", keys, position, has_gauss, gauss))
    at += words + _NUMPY.size
    internal: tuple[Any, ...] = tuple(np.frombuffer(data, dtype="<u4", count=625, offset=at).tolist())
    version, has_next, following = _PYTHON.unpack_from(data, at + 4 * 625)
    random.setstate((version, internal, following if has_next else None))
