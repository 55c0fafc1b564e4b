"""The order of an epoch: a seeded permutation that is computed where it is needed and held nowhere.

A Feistel network permutes {0 .. a*b - 1} with a = ceil(sqrt n) and b = ceil(n / a); what falls outside {0 .. n - 1} is sent through again
("cycle walking": Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002), which happens to fewer than a of a*b places. So any
place of the order costs the same, whatever lies before it: this is what makes resuming to the sample and any world size free.

With a window, shards are permuted first and samples among `window` neighbouring shards of that order only, so that one who streams needs
that many shards at a time. Does not know: what a sample is or where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import blake3
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

ROUNDS = 8
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # the finalizer of splitmix64 (Steele et al., 2014)
_S1, _S2, _S3 = np.uint64(30), np.uint64(27), np.uint64(31)


class Permutation:
    """A bijection of {0 .. count - 1} that a key (any integers, not negative) chooses. Memory does not grow with `count`, at most 2**62."""

    def __init__(self, count: int, *key: int) -> None:
        """Raises ValueError for a count that is negative or too large."""
        if not 0 <= count <= 2**62:
            raise ValueError(f"cannot permute {count} places")
        self.count = count
        a = max(1, int(np.ceil(np.sqrt(count))))
        while a * a < count:  # the square root of a large number is rounded
            a += 1
        self._a = np.uint64(a)
        self._b = np.uint64(max(1, -(-count // a)))
        material = blake3.blake3(b"order" + b"".join(part.to_bytes(16, "little") for part in key)).digest(length=8 * ROUNDS)
        self._keys = np.frombuffer(material, "<u8")

    def at(self, places: npt.ArrayLike) -> Ints:
        """Which elements stand at these places, int64 of the same shape. Places must be within the count."""
        values = np.array(places, np.uint64)
        count = np.uint64(self.count)
        out = self._once(values.reshape(-1))  # a scalar would warn of the overflow that mixing means
        while (outside := out >= count).any():
            out[outside] = self._once(out[outside])
        return out.astype(np.int64).reshape(values.shape)

    def _once(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        a, b = self._a, self._b
        left, right = values // b, values % b
        for number in range(0, ROUNDS, 2):
            left = (left + _mixed(right ^ self._keys[number]) % a) % a
            right = (right + _mixed(left ^ self._keys[number + 1]) % b) % b
        return np.asarray(left * b + right)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> _S1)) * _MIX_1
    values = (values ^ (values >> _S2)) * _MIX_2
    return np.asarray(values ^ (values >> _S3))


class Order:
    """The order in which an epoch visits the records of shards. `records(places)` numbers records shard after shard."""

    def __init__(self, shard_rows: Sequence[int], *, seed: int, epoch: int, window: int | None = None, shuffled: bool = True) -> None:
        """`shard_rows` are the records of each shard; without `window` samples are permuted among all shards."""
        rows = np.array(shard_rows, np.int64)
        self.count = int(rows.sum())
        self._ends = np.cumsum(rows)
        self._shuffled = shuffled
        self._whole = Permutation(self.count, seed, epoch)
        self._windowed = shuffled and window is not None and window < len(rows)
        if self._windowed:
            assert window is not None
            shards = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch)))).permutation(len(rows))
            self._slots, self._window = shards, window
            self._first_record = np.concatenate([[0], np.cumsum(rows)])[shards]
            self._slot_ends = np.cumsum(rows[shards])
            ends = np.append(np.arange(window, len(rows), window), len(rows))
            self._window_ends = self._slot_ends[ends - 1]
            self._windows = [
                Permutation(int(size), seed, epoch, number) for number, size in enumerate(np.diff(self._window_ends, prepend=0))
            ]

    def records(self, places: Ints) -> Ints:
        """The records at these places of the order, int64 [places]."""
        if not self._shuffled:
            return np.asarray(places, np.int64)
        if not self._windowed:
            return self._whole.at(places)
        windows = np.searchsorted(self._window_ends, places, side="right")
        moved = np.empty(len(places), np.int64)
        for window in np.unique(windows):
            chosen = windows == window
            start = self._window_ends[window - 1] if window else 0
            moved[chosen] = start + self._windows[window].at(places[chosen] - start)
        slots = np.searchsorted(self._slot_ends, moved, side="right")
        before = np.where(slots > 0, self._slot_ends[slots - 1], 0)
        return np.asarray(self._first_record[slots] + moved - before)

    def shards(self, place: int) -> list[int]:
        """The shards that are needed from this place on, as far as is foreseen: its window's and the next one's; without windows, all."""
        if self._windowed:
            first = int(np.searchsorted(self._window_ends, place, side="right")) * self._window
            return [int(shard) for shard in self._slots[first : first + 2 * self._window]]
        return list(range(0 if self._shuffled else int(np.searchsorted(self._ends, place, side="right")), len(self._ends)))
